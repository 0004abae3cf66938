"""The services' side: requests are checked, vectors made, texts ranked, answers changed by faults."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kbsync_standin.faults import Fault
from kbsync_standin.messages import Letter, Request, Response, StandInClock
from kbsync_standin.vectors.dialects import (
    EMBEDDINGS,
    RANKING,
    Breach,
    asked,
    packed,
    score,
    vector_of,
    wanted,
)

KINDS: Mapping[str, str] = {
    "out-of-order": "rows come in reverse; their index tells",
    "constant-index": "every row has index 0",
    "one-too-few": "the last row is missing",
    "one-too-many": "the last row comes twice",
    "wrong-dimension": "the last vector is one number shorter",
    "own-length": "vectors have the model's own length, whatever was asked for",
    "nan": "the first vector has a NaN",
    "null-number": "the first vector has a null",
    "zero-vector": "the first vector is all zeros",
    "stutter": "a text has no vector the first times it is asked for [args: n: so often (1); word: only "
    "texts with it; form: nan, null, zeros or none (each in turn)]",
    "several-vectors": "each row has a list of vectors",
    "as-base64": "vectors are base64 whether asked for or not",
    "refused": "every request is refused, with `status` (default 400), `code` and `param`",
    "bad-item": "a request with `word` in a text is refused as a whole, with `status` (default 422)",
    "overloaded": "429, as tei says it",
    "no-money": "429 with insufficient_quota",
    "other-model": "another model is named",
    "bare": "the list stands alone",
    "data": "the list is called data",
    "results": "the list is called results",
    "score": "scores are called score",
    "unsorted": "worst first",
    "index-beyond": "one index is beyond the texts",
    "index-twice": "the best index comes twice, the second time with a worse score",
    "index-text": "indexes are texts",
    "fewer": "only the best is given",
    "logits": "scores are logits, negative ones among them",
    "ties": "all scores are equal",
    "echo-null": "documents are echoed with a null text",
    "not-found": "the model is not served: 404, at zhipu 400 with 1211",
}
"""Fault kinds with one line of explanation each."""

Row = dict[str, Any]


def reshaped_rows(rows: list[Row], fault: Fault | None) -> list[Row]:
    """The rows of an answer, embeddings or scores, as the fault has them."""
    change = _ROWS.get(fault.kind) if fault is not None else None
    return change(rows) if change is not None else rows


FORMS = ("nan", "null", "zeros", "none")
"""How a vector is none."""


def without_vector(row: Row, form: str) -> Row:
    """A row whose vector is none, in one of `FORMS`."""
    vector = row["embedding"]
    forms: Mapping[str, list[Any] | None] = {
        "nan": [math.nan, *vector[1:]],
        "null": [None, *vector[1:]],
        "zeros": [0.0] * len(vector),
        "none": None,
    }
    return row | {"embedding": forms[form]}


def _with(rows: list[Row], place: int, **news: Any) -> list[Row]:
    changed = [dict(row) for row in rows]
    changed[place] |= news
    return changed


def _scored(change: Callable[[float], float]) -> Callable[[list[Row]], list[Row]]:
    def apply(rows: list[Row]) -> list[Row]:
        return [row | {"relevance_score": change(row["relevance_score"])} for row in rows]

    return apply


def _logit(share: float) -> float:
    share = min(0.99, max(0.01, share))
    return math.log(share / (1 - share))


_ROWS: Mapping[str, Callable[[list[Row]], list[Row]]] = {
    "out-of-order": lambda rows: rows[::-1],
    "constant-index": lambda rows: [row | {"index": 0} for row in rows],
    "one-too-few": lambda rows: rows[:-1],
    "one-too-many": lambda rows: rows + rows[-1:],
    "wrong-dimension": lambda rows: _with(rows, -1, embedding=rows[-1]["embedding"][:-1]),
    "nan": lambda rows: _with(rows, 0, embedding=[math.nan, *rows[0]["embedding"][1:]]),
    "null-number": lambda rows: _with(rows, 0, embedding=[None, *rows[0]["embedding"][1:]]),
    "zero-vector": lambda rows: _with(rows, 0, embedding=[0.0] * len(rows[0]["embedding"])),
    "several-vectors": lambda rows: [row | {"embedding": [row["embedding"]]} for row in rows],
    "unsorted": lambda rows: rows[::-1],
    "index-beyond": lambda rows: [*rows, rows[0] | {"index": 10_000}],
    "index-twice": lambda rows: [*rows, rows[0] | {"relevance_score": -1.0}],
    "index-text": lambda rows: [row | {"index": str(row["index"])} for row in rows],
    "fewer": lambda rows: rows[:1],
    "logits": _scored(_logit),
    "ties": _scored(lambda _: 0.5),
    "echo-null": lambda rows: [row | {"document": {"text": None}} for row in rows],
}


OVERLOADED = {"error": "Model is overloaded", "error_type": "Overloaded"}
NO_MONEY = {
    "error": {
        "message": "You exceeded your current quota",
        "type": "insufficient_quota",
        "code": "insufficient_quota",
    }
}


@dataclass(frozen=True, slots=True)
class Behaviour:
    """`dimensions`: of vectors where a request names none. `key_refused`: every key is.

    `most_items`: of one request, embeddings or texts; 0: as many as the documents of the dialect say.
    """

    dimensions: int = 64
    key_refused: bool = False
    most_items: int = 0


class VectorsApplication:
    """All dialects under one roof. It keeps no documents."""

    name = "vectors"
    kinds: Mapping[str, str] = KINDS

    def __init__(self, key: str, clock: StandInClock) -> None:
        self.behaviour = Behaviour()
        self.clock = clock
        self.violations: list[str] = []
        self.letters: list[Letter] = []
        self._key = key
        self._journal: list[dict[str, Any]] = []
        self._stuttering: Counter[str] = Counter()

    def op(self, request: Request) -> str:
        """`embed` or `rerank`."""
        dialect, route = _place(request.path)
        if dialect in EMBEDDINGS and request.method == "POST":
            if route == EMBEDDINGS[dialect].route:
                return "embed"
            if route == RANKING[dialect].route:
                return "rerank"
        return ""

    def subject(self, request: Request) -> str:
        """The dialect."""
        return _place(request.path)[0]

    def answer(self, request: Request, fault: Fault | None) -> Response:
        """Vectors or an order, or what is wrong with the request."""
        dialect, op = self.subject(request), self.op(request)
        if not op:
            return _error(dialect, 404, "there is no such route")
        if not self._knows(request):
            return _error(dialect, 401, "Incorrect API key provided", "invalid_api_key")
        try:
            body = json.loads(request.body)
        except ValueError:
            body = None
        try:
            early = self._early(dialect, request, fault)
            return early or (self._embedded if op == "embed" else self._ranked)(dialect, body, fault)
        except Breach as breach:
            self.violations.append(f"{dialect} {op}: {breach}")
            return _error(dialect, breach.status, str(breach), breach.code)

    def set_behaviour(self, switches: Mapping[str, Any]) -> None:
        """Raises `ValueError` for an unknown switch or a wrong value."""
        kinds = {"dimensions": int, "key_refused": bool, "most_items": int}
        for name, value in switches.items():
            if name not in kinds or type(value) is not kinds[name]:
                there_are = "dimensions=64, key_refused=false, most_items=0"
                raise ValueError(f"{name}={value!r} is no switch; there are: {there_are}")
        self.behaviour = replace(self.behaviour, **switches)

    def snapshot(self) -> dict[str, Any]:
        """It holds no documents."""
        return {"documents": []}

    def journal(self) -> list[dict[str, Any]]:
        """What was answered: operation, dialect, and how many texts."""
        return list(self._journal)

    def reset(self) -> None:
        """Forget what was answered."""
        self._journal.clear()

    def put_foreign(self, args: dict[str, Any]) -> dict[str, Any]:
        """Raises `ValueError`: nobody stores anything here."""
        raise ValueError("this stand-in holds no documents")

    def config_hint(self, url: str) -> str:
        """A mirror whose vectors and order come from here."""
        rest = f"api_key: {self._key}, model: words}}"
        return (
            "mirrors:\n  - name: handbook\n    folder: ./handbook\n    target:\n      type: local\n"
            f"      embedding: {{type: openai, base_url: {url}/openai/v1, {rest}\n"
            f"      rerank: {{type: jina, base_url: {url}/jina/v1, {rest}\n"
        )

    def _knows(self, request: Request) -> bool:
        return (
            not self.behaviour.key_refused and request.headers.get("authorization") == f"Bearer {self._key}"
        )

    def _early(self, dialect: str, request: Request, fault: Fault | None) -> Response | None:
        """Faults that keep any work from being done."""
        kind = fault.kind if fault is not None else ""
        match kind:
            case "overloaded":
                return Response.json(OVERLOADED, 429)
            case "no-money":
                return Response.json(NO_MONEY, 429)
            case "not-found":
                return _unserved(dialect)
            case "refused" if fault is not None:
                args = fault.args
                status, said = int(args.get("status", 400)), "this request is refused"
                return _error(dialect, status, said, str(args.get("code", "")), args.get("param"))
            case "bad-item" if fault is not None:
                word = str(fault.args.get("word", "bad")).encode()
                if word in request.body:
                    return _error(dialect, int(fault.args.get("status", 422)), "an input was refused")
        return None

    def _embedded(self, dialect: str, body: object, fault: Fault | None) -> Response:
        asked_for = wanted(dialect, body, self.behaviour.most_items)
        self._journal.append({"effect": "embedded", "name": dialect, "texts": len(asked_for.texts)})
        is_deaf = fault is not None and fault.kind == "own-length"
        length = (None if is_deaf else asked_for.dimensions) or self.behaviour.dimensions
        rows = reshaped_rows(_rows(asked_for.texts, length), fault)
        if fault is not None and fault.kind == "stutter":
            rows = self._stuttered(rows, asked_for.texts, fault.args)
        if asked_for.packed or (fault is not None and fault.kind == "as-base64"):
            rows = [row | {"embedding": _packed(row["embedding"])} for row in rows]
        if dialect == "tei":
            return _json([row["embedding"] for row in rows])
        model = "another" if fault is not None and fault.kind == "other-model" else _model(body)
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        if dialect == "zhipu":
            usage["completion_tokens"] = 0
        return _json({"object": "list", "data": rows, "model": model, "usage": usage})

    def _stuttered(
        self, rows: list[dict[str, Any]], texts: Sequence[str], args: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Without the vectors of texts that were not asked for often enough yet."""
        shown = []
        for row, text in zip(rows, texts, strict=True):
            if str(args.get("word", "")) in text:
                self._stuttering[text] += 1
                if self._stuttering[text] <= int(args.get("n", 1)):
                    form = args.get("form") or FORMS[len(self._stuttering) % len(FORMS)]
                    row = without_vector(row, str(form))
            shown.append(row)
        return shown

    def _ranked(self, dialect: str, body: object, fault: Fault | None) -> Response:
        question, texts, most = asked(dialect, body, self.behaviour.most_items)
        self._journal.append({"effect": "ranked", "name": dialect, "texts": len(texts)})
        rows: list[dict[str, Any]] = [
            {"index": index, "relevance_score": score(question, text)} for index, text in enumerate(texts)
        ]
        rows = sorted(rows, key=lambda row: (-row["relevance_score"], row["index"]))[:most]
        rows = [row | _echo(dialect, body, texts[int(row["index"])]) for row in rows]
        return _shaped(dialect, reshaped_rows(rows, fault), fault.kind if fault is not None else "")


def _rows(texts: Sequence[str], length: int) -> list[dict[str, Any]]:
    return [
        {"object": "embedding", "index": index, "embedding": vector_of(text, length)}
        for index, text in enumerate(texts)
    ]


def _place(path: str) -> tuple[str, str]:
    """The dialect and the route behind its base_url."""
    dialect, _, rest = path.lstrip("/").partition("/")
    return dialect, f"/{rest.rpartition('/')[2]}"


def _shaped(dialect: str, rows: list[dict[str, Any]], kind: str) -> Response:
    shape = kind if kind in ("bare", "data", "results") else RANKING[dialect].shape
    if kind == "score" or (shape == "bare" and kind != "bare"):
        rows = [_renamed(row) for row in rows]
    if shape == "bare":
        return _json(rows)
    return _json({"model": "rank", shape: rows, "usage": {"total_tokens": 815, "prompt_tokens": 0}})


def _renamed(row: dict[str, Any]) -> dict[str, Any]:
    return {"score" if key == "relevance_score" else key: value for key, value in row.items()}


def _echo(dialect: str, body: object, text: str) -> dict[str, Any]:
    """The text beside its score, where the dialect shows it, always or on request."""
    wish = body if isinstance(body, dict) else {}
    match dialect:
        case "newapi" | "vllm":
            return {"document": {"text": text}}
        case "jina" if wish.get("return_documents"):
            return {"document": {"text": text}}
        case "zhipu" if wish.get("return_documents"):
            return {"document": text}
        case "tei" if wish.get("return_text"):
            return {"text": text}
    return {}


def _packed(embedding: Any) -> Any:
    is_vector = isinstance(embedding, list) and all(isinstance(number, float) for number in embedding)
    return packed(embedding) if is_vector else embedding


def _model(body: object) -> str:
    return str(body.get("model", "")) if isinstance(body, dict) else ""


def _json(value: Any) -> Response:
    """NaN included, as some servers write it."""
    return Response(200, json.dumps(value, ensure_ascii=False).encode(), {"content-type": "application/json"})


def _unserved(dialect: str) -> Response:
    """As it is said of a model that there is not."""
    if dialect == "zhipu":
        return _error(dialect, 400, "模型不存在，请检查模型代码。", "1211")
    return _error(dialect, 404, "The model does not exist", "model_not_found")


def _error(dialect: str, status: int, message: str, code: str = "", param: str | None = None) -> Response:
    """In the form of the dialect. `param`: what openai and newapi blame."""
    match dialect:
        case "tei":
            kinds = {413: "Validation", 422: "Tokenizer", 424: "Backend", 429: "Overloaded"}
            return Response.json({"error": message, "error_type": kinds.get(status, "Validation")}, status)
        case "jina":
            return Response.json({"detail": message}, status)
        case "zhipu":
            number = code if code.isdecimal() else {401: "1000", 404: "1222"}.get(status, "1210")
            return Response.json({"error": {"code": number, "message": message}}, status)
        case "vllm":
            kind = {401: "AuthenticationError", 404: "NotFoundError"}.get(status, "BadRequestError")
            return Response.json(
                {"object": "error", "message": message, "type": kind, "code": status}, status
            )
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code or None}
    return Response.json({"error": error}, status)
