"""The services' side: requests are checked, vectors made, texts ranked, answers changed by faults."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kbsync_standin.faults import Fault
from kbsync_standin.messages import Letter, Request, Response, StandInClock
from kbsync_standin.rules import Breach
from kbsync_standin.switches import changed
from kbsync_standin.vectors.dialects import (
    EMBEDDINGS,
    RANKING,
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
    "no-base64": "a request for base64 is refused: `status` (400), `message`, `param` (none)",
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


_NO_VECTOR: Mapping[str, Callable[[list[float]], list[Any] | None]] = {
    "nan": lambda vector: [math.nan, *vector[1:]],
    "null": lambda vector: [None, *vector[1:]],
    "zeros": lambda vector: [0.0] * len(vector),
    "none": lambda vector: None,
}
"""The forms in which a vector is none."""


def _first_without(form: str) -> Callable[[list[Row]], list[Row]]:
    """A change of rows: the first has no vector."""
    return lambda rows: [rows[0] | {"embedding": _NO_VECTOR[form](rows[0]["embedding"])}, *rows[1:]]


def _scored(change: Callable[[float], float]) -> Callable[[list[Row]], list[Row]]:
    return lambda rows: [row | {"relevance_score": change(row["relevance_score"])} for row in rows]


def _logit(share: float) -> float:
    share = min(0.99, max(0.01, share))
    return math.log(share / (1 - share))


_CHANGES: Mapping[str, Callable[[list[Row]], list[Row]]] = {
    "out-of-order": lambda rows: rows[::-1],
    "constant-index": lambda rows: [row | {"index": 0} for row in rows],
    "one-too-few": lambda rows: rows[:-1],
    "one-too-many": lambda rows: rows + rows[-1:],
    "wrong-dimension": lambda rows: [*rows[:-1], rows[-1] | {"embedding": rows[-1]["embedding"][:-1]}],
    "nan": _first_without("nan"),
    "null-number": _first_without("null"),
    "zero-vector": _first_without("zeros"),
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
class VectorsBehaviour:
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

    def __init__(
        self,
        key: str = "id.secret-for-tests",
        seed: int = 0,
        vectorize: tuple[float, float] = (0.0, 0.0),
        clock: StandInClock | None = None,
    ) -> None:
        """`key`: the only API key it takes. Nothing is left to chance and nothing takes time."""
        self.behaviour = VectorsBehaviour()
        self.clock = clock or StandInClock()
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
        if self.behaviour.key_refused or request.headers.get("authorization") != f"Bearer {self._key}":
            return _error(dialect, 401, "Incorrect API key provided", "invalid_api_key")
        try:
            body = json.loads(request.body)
        except ValueError:
            body = None
        try:
            fault = fault or Fault("")
            answer = self._embedded if op == "embed" else self._ranked
            return self._refusal(dialect, request, fault) or answer(dialect, body, fault)
        except Breach as breach:
            self.violations.append(f"{dialect} {op}: {breach}")
            return _error(dialect, breach.status, str(breach), str(breach.code))

    def set_behaviour(self, switches: Mapping[str, Any]) -> None:
        """Raises `ValueError` for an unknown switch or a wrong value."""
        self.behaviour = changed(self.behaviour, switches)

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

    def _refusal(self, dialect: str, request: Request, fault: Fault) -> Response | None:
        """Faults that keep any work from being done."""
        args = fault.args
        match fault.kind:
            case "overloaded":
                return Response.json(OVERLOADED, 429)
            case "no-money":
                return Response.json(NO_MONEY, 429)
            case "not-found" if dialect == "zhipu":
                return _error(dialect, 400, "模型不存在，请检查模型代码。", "1211")
            case "not-found":
                return _error(dialect, 404, "The model does not exist", "model_not_found")
            case "refused":
                code = str(args.get("code", ""))
                said = "this request is refused"
                return _error(dialect, int(args.get("status", 400)), said, code, args.get("param"))
            case "no-base64" if b'"base64"' in request.body:
                said = str(args.get("message", "encoding_format 'base64' is not supported, only 'float'"))
                return _error(dialect, int(args.get("status", 400)), said, "", args.get("param"))
            case "bad-item" if str(args.get("word", "bad")).encode() in request.body:
                return _error(dialect, int(args.get("status", 422)), "an input was refused")
        return None

    def _embedded(self, dialect: str, body: Any, fault: Fault) -> Response:
        asked_for = wanted(dialect, body, self.behaviour.most_items)
        self._journal.append({"effect": "embedded", "name": dialect, "texts": len(asked_for.texts)})
        length = self.behaviour.dimensions
        if asked_for.dimensions and fault.kind != "own-length":
            length = asked_for.dimensions
        rows: list[Row] = [
            {"object": "embedding", "index": index, "embedding": vector_of(text, length)}
            for index, text in enumerate(asked_for.texts)
        ]
        rows = _CHANGES.get(fault.kind, list)(rows)
        if fault.kind == "stutter":
            rows = self._stuttered(rows, asked_for.texts, fault.args)
        for row in rows if asked_for.packed or fault.kind == "as-base64" else ():
            vector = row["embedding"]
            if isinstance(vector, list) and all(isinstance(number, float) for number in vector):
                row["embedding"] = packed(vector)
        if dialect == "tei":
            return _json([row["embedding"] for row in rows])
        model = "another" if fault.kind == "other-model" else str(body.get("model", ""))
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        if dialect == "zhipu":
            usage["completion_tokens"] = 0
        return _json({"object": "list", "data": rows, "model": model, "usage": usage})

    def _stuttered(self, rows: list[Row], texts: Sequence[str], args: Mapping[str, Any]) -> list[Row]:
        """Without the vectors of texts that were not asked for often enough yet."""
        shown = []
        for row, text in zip(rows, texts, strict=True):
            if str(args.get("word", "")) in text:
                self._stuttering[text] += 1
                if self._stuttering[text] <= int(args.get("n", 1)):
                    forms = list(_NO_VECTOR)
                    form = str(args.get("form") or forms[len(self._stuttering) % len(forms)])
                    row = row | {"embedding": _NO_VECTOR[form](row["embedding"])}
            shown.append(row)
        return shown

    def _ranked(self, dialect: str, body: Any, fault: Fault) -> Response:
        question, texts, most = asked(dialect, body, self.behaviour.most_items)
        self._journal.append({"effect": "ranked", "name": dialect, "texts": len(texts)})
        rows: list[Row] = [
            {"index": index, "relevance_score": score(question, text)} for index, text in enumerate(texts)
        ]
        rows = sorted(rows, key=lambda row: (-row["relevance_score"], row["index"]))[:most]
        for row in rows:
            # The text stands beside its score, always or on request.
            text = texts[row["index"]]
            if dialect in ("newapi", "vllm") or (dialect == "jina" and body.get("return_documents")):
                row["document"] = {"text": text}
            elif dialect == "zhipu" and body.get("return_documents"):
                row["document"] = text
            elif dialect == "tei" and body.get("return_text"):
                row["text"] = text
        rows = _CHANGES.get(fault.kind, list)(rows)
        is_shape = fault.kind in ("bare", "data", "results")
        shape = fault.kind if is_shape else RANKING[dialect].shape
        if fault.kind == "score" or (shape == "bare" and not is_shape):
            rows = [{"score" if key == "relevance_score" else key: row[key] for key in row} for row in rows]
        if shape == "bare":
            return _json(rows)
        return _json({"model": "rank", shape: rows, "usage": {"total_tokens": 815, "prompt_tokens": 0}})


def _place(path: str) -> tuple[str, str]:
    """The dialect and the route behind its base_url."""
    dialect, _, rest = path.lstrip("/").partition("/")
    return dialect, f"/{rest.rpartition('/')[2]}"


def _json(value: Any) -> Response:
    """NaN included, as some servers write it."""
    return Response(200, json.dumps(value, ensure_ascii=False).encode(), {"content-type": "application/json"})


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
