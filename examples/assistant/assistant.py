"""An assistant without a model: it asks `kbsync mcp` over stdio, and once more after the folder was edited.

Usage: python examples/assistant/assistant.py FOLDER

It changes files in FOLDER: give it a copy. It needs kbsync[mcp].
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from mcp import Client, StdioServerParameters, stdio_client

SECONDS = 30
"""For an edit to be found; a file is taken when it has been quiet for two."""


async def ask(client: Client, question: str) -> tuple[str, str]:
    """The best document's path, and the passage that answers."""
    result = await client.call_tool("search", {"query": question, "k": 1, "wait": SECONDS})
    assert not result.is_error, result.content
    for hit in result.structured_content["hits"]:
        return hit["path"], " ".join(hit["passages"][0]["text"].split())
    return "nothing", ""


async def ask_until(client: Client, question: str, word: str) -> None:
    """Ask until the answer has this word, and show it."""
    async with asyncio.timeout(SECONDS):
        while True:
            path, passage = await ask(client, question)
            if word in passage:
                print(f"> {question}\n  {path}: {passage}")
                return
            await asyncio.sleep(0.2)


async def main(folder: Path) -> None:
    """Ask, edit, ask again."""
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "kbsync", "mcp", "--folder", str(folder), "--quiet"]
    )
    async with Client(stdio_client(server)) as client:
        tools = await client.list_tools()
        print(f"tools: {', '.join(tool.name for tool in tools.tools)}")
        await ask_until(client, "How often is the coffee machine descaled?", "first Monday")

        coffee = folder / "coffee.md"
        coffee.write_text(coffee.read_text().replace("first Monday", "last Friday"))
        print("(coffee.md was edited)")
        await ask_until(client, "How often is the coffee machine descaled?", "last Friday")

        (folder / "parking.md").write_text("# Parking\n\nGuests park in row C, behind the east door.\n")
        print("(parking.md is new)")
        await ask_until(client, "Where do guests park?", "row C")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
