"""Usage of images, transcriptions, speech and OCR → disjoint meters (money reference §1).

Images are billed by tokens where the reply counts tokens, else by the picture. Transcriptions say tokens or seconds.
Speech says nothing unless it is a stream: what it is billed by are the characters of the request.
"""

from __future__ import annotations

import msgspec

from gateway.core.usage import Meter, Usage, UsagePart, UsageSource
from gateway.dialects.counts import Counts, Fields, fields_of, objects_of, summed

_TOKENS = frozenset({
    "type", "input_tokens", "input_tokens_details", "input_token_details", "output_tokens", "output_tokens_details",
    "output_token_details", "total_tokens",
})  # fmt: skip
_DURATION = frozenset({"type", "seconds"})
_INPUT = frozenset({"text_tokens", "image_tokens", "audio_tokens", "cached_tokens", "cached_tokens_details"})
_OUTPUT = frozenset({"text_tokens", "image_tokens", "audio_tokens", "reasoning_tokens"})
_DECODER = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()


def image_usage(body: bytes) -> Usage | None:
    """Usage of a reply of images, or of a stream's `image_generation.completed` event. None: it holds no image."""
    reply = _decoded(body)
    fields, drawn = fields_of(reply.get("usage")), fields_of(reply.get("svg_usage"))
    counts = Counts()
    if not fields and not drawn:
        images = len(objects_of(reply.get("data")))
        return counts.usage({Meter.IMAGES: images}, _ENCODER.encode({"images": images})) if images else None
    seen = _tokens(counts, fields, Meter.OUTPUT_IMAGE) if fields else {}
    if not drawn:
        return counts.usage(seen, _ENCODER.encode(fields))
    written = _tokens(counts, drawn, Meter.OUTPUT)
    parts = [UsagePart("image", "", seen), UsagePart("svg", "", written)]
    text = _ENCODER.encode({"usage": fields, "svg_usage": drawn})
    return counts.usage(summed([seen, written]), text, parts=[part for part in parts if part.meters])


def transcription_usage(body: bytes) -> Usage | None:
    """Usage of a transcription, or of a stream's `transcript.text.done` event; None when it carries none."""
    fields = fields_of(_decoded(body).get("usage"))
    return read_transcription(fields) if fields else None


def read_transcription(fields: Fields) -> Usage:
    """Usage of a transcription from its `usage` object: tokens, or seconds."""
    counts = Counts()
    if fields.get("type") == "duration":
        counts.known(fields, _DURATION)
        return counts.usage({Meter.AUDIO_SECONDS: counts.seconds(fields, "seconds")}, _ENCODER.encode(fields))
    return counts.usage(_tokens(counts, fields, Meter.OUTPUT), _ENCODER.encode(fields))


def speech_usage(event: bytes) -> Usage | None:
    """Usage of a stream's `speech.audio.done` event. Sound is all that such a model puts out: plain output."""
    fields = fields_of(_decoded(event).get("usage"))
    if not fields:
        return None
    counts = Counts()
    return counts.usage(_tokens(counts, fields, Meter.OUTPUT), _ENCODER.encode(fields))


def spoken_characters(text: str) -> Usage:
    """Usage of speech whose reply says nothing: the characters of the request, counted here."""
    raw = _ENCODER.encode({"characters": len(text)})
    return Usage({Meter.CHARACTERS: len(text)} if text else {}, UsageSource.ESTIMATED, raw=raw)


def ocr_usage(body: bytes) -> Usage | None:
    """Usage of Mistral's OCR: pages, dearer where the reply has annotations of them. None when it carries none."""
    reply = _decoded(body)
    fields = fields_of(reply.get("usage_info"))
    if not fields:
        return None
    counts = Counts()
    counts.known(fields, frozenset({"pages_processed", "doc_size_bytes"}))
    pages = counts.required(fields, "pages_processed")
    annotated = bool(reply.get("document_annotation")) or any(
        image.get("image_annotation")
        for page in objects_of(reply.get("pages"))
        for image in objects_of(page.get("images"))
    )
    return counts.usage({Meter.ANNOTATED_PAGES if annotated else Meter.PAGES: pages}, _ENCODER.encode(fields))


def _decoded(body: bytes) -> Fields:
    try:
        return fields_of(_DECODER.decode(body))
    except (ValueError, RecursionError):
        return {}


def _tokens(counts: Counts, fields: Fields, output: Meter) -> dict[Meter, int]:
    """Tokens by modality. `output` is what output tokens are that no detail tells apart."""
    counts.known(fields, _TOKENS)
    taken, given = counts.required(fields, "input_tokens"), counts.count(fields, "output_tokens")
    details = counts.part(fields, "input_tokens_details") or counts.part(fields, "input_token_details")
    told = counts.part(fields, "output_tokens_details") or counts.part(fields, "output_token_details")
    counts.known(details, _INPUT, "input_tokens_details")
    counts.known(told, _OUTPUT, "output_tokens_details")
    read = cached_by_modality(counts, details)
    meters = fresh_by_modality(counts, details, taken, read)
    spoken, drawn = counts.count(told, "audio_tokens"), counts.count(told, "image_tokens")
    written = counts.count(told, "text_tokens")
    rest = given - spoken - drawn - written
    if rest < 0:
        counts.fail(f"output_tokens {given} is less than its parts")
    total = counts.count(fields, "total_tokens")
    if fields.get("total_tokens") is not None and total != taken + given:
        counts.fail(f"total_tokens {total} is not input {taken} plus output {given}")
    meters = summed(
        [meters, {Meter.OUTPUT: written, Meter.OUTPUT_AUDIO: spoken, Meter.OUTPUT_IMAGE: drawn}, {output: rest}]
    )
    return {meter: quantity for meter, quantity in meters.items() if quantity}


def cached_by_modality(counts: Counts, details: Fields) -> dict[Meter, int]:
    """Cached tokens by modality; those that no detail tells apart are text."""
    told = counts.part(details, "cached_tokens_details")
    counts.known(told, frozenset({"text_tokens", "audio_tokens", "image_tokens"}), "cached_tokens_details")
    cached = counts.count(details, "cached_tokens")
    heard, seen = counts.count(told, "audio_tokens"), counts.count(told, "image_tokens")
    if heard + seen + counts.count(told, "text_tokens") > cached:
        counts.fail(f"cached_tokens {cached} is less than its parts")
    return {
        Meter.CACHE_READ: cached - heard - seen,
        Meter.CACHE_READ_AUDIO: heard,
        Meter.CACHE_READ_IMAGE: seen,
    }


def fresh_by_modality(counts: Counts, details: Fields, taken: int, read: dict[Meter, int]) -> dict[Meter, int]:
    """All input tokens by modality, cached ones apart. What no detail tells apart is text."""
    heard, seen = counts.count(details, "audio_tokens"), counts.count(details, "image_tokens")
    if heard + seen + counts.count(details, "text_tokens") > taken:
        counts.fail(f"input_tokens {taken} is less than its parts")
    fresh = {
        Meter.INPUT: taken - heard - seen - read[Meter.CACHE_READ],
        Meter.INPUT_AUDIO: heard - read[Meter.CACHE_READ_AUDIO],
        Meter.INPUT_IMAGE: seen - read[Meter.CACHE_READ_IMAGE],
    }
    if any(quantity < 0 for quantity in fresh.values()):
        counts.fail(f"input_tokens {taken} has less of a kind than of that kind was cached")
    return fresh | read
