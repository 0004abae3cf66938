"""The services' application: it checks requests, embeds and ranks texts, and applies faults to responses."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from kbsync_standin.application import Application, Behaviour, Call, Document, Route, route, shared_words
from kbsync_standin.messages import Request, Response
from kbsync_standin.rules import Refused, json_object
from kbsync_standin.vectors.dialects import DIALECTS, packed, parse_embedding, parse_rerank, vector_of

KINDS: Mapping[str, str] = {
    "out-of-order": "rows come in reverse order, with correct indexes",
    "constant-index": "every row has index 0",
    "one-too-few": "the last row is missing",
    "one-too-many": "the last row comes twice",
    "wrong-dimension": "the last vector is one number shorter",
    "own-length": "vectors have the model's own length, ignoring the request",
    "nan": "the first vector has a NaN",
    "null-number": "the first vector has a null",
    "zero-vector": "the first vector is all zeros",
    "stutter": "the first requests for a text return no vector [args: n: how many times (1); word: only "
    "texts with it; form: nan, null, zeros or none (each in turn)]",
    "several-vectors": "each row has a list of vectors",
    "as-base64": "vectors are always base64",
    "refused": "every request is refused, with `status` (default 400), `code` and `param`",
    "no-base64": "a request for base64 is refused: `status` (400), `message`, `param` (none)",
    "bad-item": "a request with `word` in a text is refused as a whole, with `status` (default 422) and "
    "`message`",
    "small-batch": "500 as llama.cpp says it, if a text has more words than `most` (512)",
    "overloaded": "429, as tei says it",
    "no-money": "429 with insufficient_quota",
    "other-model": "the response names another model",
    "bare": "the response is a bare list",
    "data": "the list has the key data",
    "results": "the list has the key results",
    "score": "scores have the key score",
    "unsorted": "worst first",
    "index-beyond": "one index is beyond the texts",
    "index-twice": "the best index comes twice, the second time with a worse score",
    "index-text": "indexes are texts",
    "fewer": "only the best row is returned",
    "logits": "scores are logits, some of them negative",
    "ties": "all scores are equal",
    "echo-null": "documents are echoed with a null text",
    "not-found": "the model is not served: 404, at zhipu 400 with 1211",
}
"""Each kind of fault with one line of explanation."""

Row = dict[str, Any]


_NO_VECTOR: Mapping[str, Callable[[list[float]], list[Any] | None]] = {
    "nan": lambda vector: [math.nan, *vector[1:]],
    "null": lambda vector: [None, *vector[1:]],
    "zeros": lambda vector: [0.0] * len(vector),
    "none": lambda vector: None,
}
"""The forms of an invalid vector."""


def _first_without(form: str) -> Callable[[list[Row]], list[Row]]:
    """Return a function that invalidates the vector of the first row."""
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
_QUOTA = "You exceeded your current quota"
NO_MONEY = {"error": {"message": _QUOTA, "type": "insufficient_quota", "code": "insufficient_quota"}}
_NO_BASE64 = "encoding_format 'base64' is not supported, only 'float'"


@dataclass(frozen=True, slots=True)
class VectorsBehaviour(Behaviour):
    """The switches of these services. `dimensions`: the length of vectors if a request sets none.

    `most_items`: the most inputs or texts in one request; 0: as many as the dialect documents.
    """

    dimensions: int = 64
    most_items: int = 0


class VectorsApplication(Application[VectorsBehaviour, Document]):
    """All dialects in one application. It stores no documents, and no work takes time."""

    name, kinds, switches = "vectors", KINDS, VectorsBehaviour
    default_key = "id.secret-for-tests"

    def begin(self) -> None:
        """Start with no text embedded."""
        self._stuttering: Counter[str] = Counter()

    def route_of(self, request: Request) -> tuple[Route | None, dict[str, str]]:
        """Return the route of a request; tei embeds at `/embed`, the others at `/embeddings`."""
        dialect = self.subject(request)
        others = "/embeddings" if dialect == "tei" else "/embed"
        is_known = dialect in DIALECTS and not request.path.endswith(others)
        return super().route_of(request) if is_known else (None, {})

    def subject(self, request: Request) -> str:
        """Return the dialect."""
        return request.path.lstrip("/").partition("/")[0]

    def admit(self, call: Call) -> None:
        """Check the key, except on unknown routes; faults that refuse the request do so here."""
        if not call.op:
            raise self.no_route(call)
        if not self.has_valid_key(call.request):
            raise Refused("Incorrect API key provided", 401, "invalid_api_key")
        is_zhipu = self.subject(call.request) == "zhipu"
        match call.fault.kind:
            case "overloaded":
                raise Refused("", response=Response.json(OVERLOADED, 429))
            case "no-money":
                raise Refused("", response=Response.json(NO_MONEY, 429))
            case "not-found" if is_zhipu:
                raise Refused("模型不存在，请检查模型代码。", 400, "1211")
            case "not-found":
                raise Refused("The model does not exist", 404, "model_not_found")
            case "refused":
                self._refuse(call, "this request is refused", str(call.arg("code", "")))
            case "no-base64" if b'"base64"' in call.request.body:
                self._refuse(call, str(call.arg("message", _NO_BASE64)))
            case "bad-item" if str(call.arg("word", "bad")).encode() in call.request.body:
                message = str(call.arg("message", "an input was refused"))
                raise Refused(message, int(call.arg("status", 422)))
            case "small-batch":
                _check_batch(json_object(call.request.body), int(call.arg("most", 512)))

    def _refuse(self, call: Call, message: str, code: str = "") -> NoReturn:
        raise Refused(message, int(call.arg("status", 400)), code, call.arg("param") or "")

    def no_route(self, call: Call) -> Refused:
        """Return the refusal for an unknown route."""
        return Refused("unknown route", 404)

    def refusal(self, refused: Refused, call: Call) -> Response:
        """Write a refusal in the dialect's format."""
        return _error(self.subject(call.request), refused)

    def store_foreign(self, name: str, content: bytes, args: Mapping[str, Any]) -> Document:
        """Raises `ValueError`: nobody stores documents here."""
        raise ValueError("this stand-in stores no documents")

    def config_hint(self, url: str) -> str:
        """Return the config of a mirror that embeds and reranks with this server."""
        credentials = f"api_key: {self._key}, model: words}}"
        return (
            "mirrors:\n  - name: handbook\n    folder: ./handbook\n    target:\n      type: local\n"
            f"      embedding: {{type: openai, base_url: {url}/openai/v1, {credentials}\n"
            f"      rerank: {{type: jina, base_url: {url}/jina/v1, {credentials}\n"
        )

    @route("POST", "/.+/embeddings", "embed")
    @route("POST", "/.+/embed", "embed")
    def _embed(self, call: Call) -> Response:
        dialect, body, fault = self.subject(call.request), json_object(call.request.body), call.fault
        request = parse_embedding(dialect, body, self.behaviour.most_items)
        self._record("embedded", "", dialect, texts=len(request.texts))
        length = self.behaviour.dimensions
        if request.dimensions and fault.kind != "own-length":
            length = request.dimensions
        rows: list[Row] = [
            {"object": "embedding", "index": index, "embedding": vector_of(text, length)}
            for index, text in enumerate(request.texts)
        ]
        rows = _CHANGES.get(fault.kind, list)(rows)
        if fault.kind == "stutter":
            rows = self._without_early_vectors(rows, request.texts, fault.args)
        for row in rows if request.packed or fault.kind == "as-base64" else ():
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

    def _without_early_vectors(
        self, rows: list[Row], texts: Sequence[str], args: Mapping[str, Any]
    ) -> list[Row]:
        """Return rows without the vectors of texts that were not requested often enough yet."""
        changed_rows = []
        for row, text in zip(rows, texts, strict=True):
            if str(args.get("word", "")) in text:
                self._stuttering[text] += 1
                if self._stuttering[text] <= int(args.get("n", 1)):
                    forms = list(_NO_VECTOR)
                    form = str(args.get("form") or forms[len(self._stuttering) % len(forms)])
                    row = row | {"embedding": _NO_VECTOR[form](row["embedding"])}
            changed_rows.append(row)
        return changed_rows

    @route("POST", "/.+/rerank", "rerank")
    def _rank(self, call: Call) -> Response:
        dialect, body, fault = self.subject(call.request), json_object(call.request.body), call.fault
        question, texts, most = parse_rerank(dialect, body, self.behaviour.most_items)
        self._record("ranked", "", dialect, texts=len(texts))
        rows: list[Row] = [
            {"index": index, "relevance_score": shared_words(question, text)}
            for index, text in enumerate(texts)
        ]
        rows = sorted(rows, key=lambda row: (-row["relevance_score"], row["index"]))[:most]
        for row in rows:
            # Texts appear next to their scores, always or on request.
            text = texts[row["index"]]
            if dialect in ("newapi", "vllm") or (dialect == "jina" and body.get("return_documents")):
                row["document"] = {"text": text}
            elif dialect == "zhipu" and body.get("return_documents"):
                row["document"] = text
            elif dialect == "tei" and body.get("return_text"):
                row["text"] = text
        rows = _CHANGES.get(fault.kind, list)(rows)
        is_shape = fault.kind in ("bare", "data", "results")
        shape = fault.kind if is_shape else DIALECTS[dialect].shape
        if fault.kind == "score" or (shape == "bare" and not is_shape):
            rows = [{"score" if key == "relevance_score" else key: row[key] for key in row} for row in rows]
        if shape == "bare":
            return _json(rows)
        return _json({"model": "rank", shape: rows, "usage": {"total_tokens": 815, "prompt_tokens": 0}})


def _check_batch(body: Any, most: int) -> None:
    """Refuse a text of more than `most` words, each of which counts as a token here."""
    longest = max(len(str(text).split()) for text in body["input"])
    if longest > most:
        message = (
            f"input ({longest} tokens) is too large to process. increase the physical batch size "
            f"(current batch size: {most})"
        )
        error = {"code": 500, "message": message, "type": "server_error"}
        raise Refused("", response=Response.json({"error": error}, 500))


def _json(value: Any) -> Response:
    """Encode JSON with NaN, as some servers do."""
    return Response(200, json.dumps(value, ensure_ascii=False).encode(), {"content-type": "application/json"})


def _error(dialect: str, refused: Refused) -> Response:
    """Write an error. `refused.kind`: the parameter that openai and newapi name."""
    status, message, code = refused.status, str(refused), str(refused.code)
    usual = {"message": message, "type": "invalid_request_error", "param": refused.kind or None}
    body: dict[str, Any] = {"error": {**usual, "code": code or None}}
    match dialect:
        case "tei":
            kinds = {413: "Validation", 422: "Tokenizer", 424: "Backend", 429: "Overloaded"}
            body = {"error": message, "error_type": kinds.get(status, "Validation")}
        case "jina":
            body = {"detail": message}
        case "zhipu":
            number = code if code.isdecimal() else {401: "1000", 404: "1222"}.get(status, "1210")
            body = {"error": {"code": number, "message": message}}
        case "vllm":
            kind = {401: "AuthenticationError", 404: "NotFoundError"}.get(status, "BadRequestError")
            body = {"object": "error", "message": message, "type": kind, "code": status}
    return Response.json(body, status)
