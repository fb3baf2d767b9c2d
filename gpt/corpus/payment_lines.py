"""Generated lines of payment logs: JSON, key=value, syslog, CSV, pipes, XML, a logger's prose, a bank's SMS.

A line is a layout with one of several ways to name, order and leave out its fields. A fifth of these pairs
of layout and naming is held out for validation, and so are frames of SMS and notes. Not from any system.
"""

import json
import random
from collections.abc import Callable, Iterator
from functools import cache

from gpt.corpus.grammar import HELD_OUT
from gpt.corpus.log_record import Draft, Side
from gpt.corpus.speaker import Speaker, make_speaker
from gpt.corpus.spelling import write
from gpt.corpus.split import side_of, unit_hash

Fields = dict[str, str]
STATUSES = (
    "SUCCESS",
    "SUCCESS",
    "SUCCESS",
    "FAILED",
    "PENDING",
    "REVERSED",
    "TIMEOUT",
    "DECLINED",
    "REFUNDED",
)
FLOWS = (
    "UPI_PAY",
    "UPI_COLLECT",
    "IMPS",
    "NEFT",
    "RTGS",
    "CARD_AUTH",
    "REFUND",
    "AUTOPAY",
    "AEPS",
    "NACH",
    "FASTAG",
    "BBPS",
)
CODES = ("00", "U30", "U16", "ZM", "BT", "U69", "RB", "XB", "K1", "U28", "Z9", "51", "91", "U09")
MODES = ("UPI", "CARD", "NETBANKING", "WALLET", "QR", "TAG", "MANDATE")
NAMINGS: tuple[dict[str, str], ...] = (
    {},
    {
        "time": "ts", "status": "st", "amount": "amt", "reference": "rrn", "flow": "type", "code": "rc",
        "merchant": "payee",
    },
    {
        "time": "timestamp", "status": "txnStatus", "amount": "txnAmount", "reference": "utr",
        "flow": "txnType", "code": "respCode", "merchant": "merchantName", "latency_ms": "latencyMs",
        "app": "clientApp", "note": "remarks", "bank": "issuerBank",
    },
    {
        "time": "@timestamp", "status": "state", "amount": "value_inr", "reference": "ref_no", "flow": "rail",
        "code": "error_code", "merchant": "beneficiary_shop", "latency_ms": "took", "app": "channel",
        "note": "narration", "bank": "psp",
    },
)  # fmt: skip
PII_KEYS = {
    "vpa": "UPI", "payer_vpa": "UPI", "payee_vpa": "UPI", "mobile": "PHONE", "msisdn": "PHONE",
    "phone": "PHONE", "acct": "ACCOUNT", "a/c": "ACCOUNT", "account_no": "ACCOUNT", "card": "CARD",
    "card_no": "CARD", "payer_name": "NAME", "beneficiary": "NAME", "customer_name": "NAME", "email": "EMAIL",
    "pan": "PAN", "ifsc": "IFSC", "aadhaar": "AADHAAR",
}  # fmt: skip
OPTIONAL = ("code", "bank", "mode", "app", "latency_ms", "retry", "host", "note", "merchant", "order")


def generate_payment_logs(
    n: int, *, seed: int, planted_fraction: float, val_fraction: float = 0.0
) -> Iterator[Draft]:
    """Yield n log lines; those of the validation side have layouts and frames of their own."""
    for i in range(n):
        key = f"payment-{i:06d}"
        side: Side = side_of(key, seed, val_fraction)
        speaker = make_speaker(random.Random(f"payment {seed} {i}"), planted_fraction, side)
        text = _line(speaker)
        record = {"id": key, "kind": "payment_log", "source": "generated", "synthetic": True, "text": text}
        yield Draft(
            record=record,
            side=side,
            planted=speaker.planted,
            kinds=speaker.kinds,
            templates=frozenset(speaker.used),
        )


@cache
def layouts(side: Side) -> tuple[tuple[str, int], ...]:
    """Return the pairs of layout and naming that a side may use."""
    pairs = sorted(
        ((name, naming) for name in LAYOUTS for naming in range(len(NAMINGS))),
        key=lambda pair: unit_hash(f"{pair[0]} {pair[1]}", 0),
    )
    n_val = round(HELD_OUT * len(pairs))
    return tuple(pairs[:n_val] if side == "val" else pairs[n_val:])


def _line(speaker: Speaker) -> str:
    rng = speaker.rng
    fields = _fields(speaker)
    if rng.random() < 0.2:
        speaker.facts |= fields
        tail = f" {speaker.expand('{sms_pii}')}" if speaker.has_pii else ""
        return speaker.reveal(speaker.expand("{sms}") + tail)
    name, naming = rng.choice(layouts(speaker.side))
    speaker.used.add(f"layout {name} {naming}")
    for optional in OPTIONAL:
        if rng.random() < 0.35:
            del fields[optional]
    named = {NAMINGS[naming].get(key, key): value for key, value in fields.items()}
    if rng.random() < 0.5:
        head, *rest = named.items()
        rng.shuffle(rest)
        named = dict([head, *rest])
    if speaker.has_pii:
        for key in rng.sample(sorted(PII_KEYS), rng.choice((1, 1, 2, 3))):
            named[key] = speaker.expand(f"{{{PII_KEYS[key]}}}")
    return speaker.reveal(LAYOUTS[name](named, rng))


def _fields(speaker: Speaker) -> Fields:
    rng = speaker.rng
    date = f"{rng.choice((2024, 2025, 2026))}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
    clock = f"{rng.randrange(24):02d}:{rng.randrange(60):02d}:{rng.randrange(60):02d}"
    stamp = rng.choice(
        (f"{date}T{clock}+05:30", f"{date} {clock}", f"{date}T{clock}.{rng.randrange(1000):03d}Z")
    )
    note = speaker.expand("{log_note}")
    return {
        "time": stamp,
        "flow": rng.choice(FLOWS),
        "status": rng.choice(STATUSES),
        "amount": f"{rng.randint(1, 99999)}.{rng.choice(('00', '00', '50', '25', '99'))}",
        "reference": "".join(rng.choice("0123456789") for _ in range(12)),
        "order": f"OD{rng.randrange(10**10):010d}",
        "code": rng.choice(CODES),
        "bank": speaker.facts["bank"],
        "merchant": speaker.facts["merchant"],
        "mode": rng.choice(MODES),
        "app": speaker.facts["app"].upper().replace(" ", "_"),
        "latency_ms": str(rng.randint(40, 9000)),
        "retry": str(rng.randint(0, 4)),
        "host": rng.choice(("pg-01", "pg-02", "switch-3", "cbs-a", "upi-gw-7", "ledger-2")),
        "note": write(note, speaker, is_agent=False),
    }


def _level(fields: Fields) -> str:
    return "INFO" if "SUCCESS" in fields.values() else "WARN" if "PENDING" in fields.values() else "ERROR"


def _json(fields: Fields, rng: random.Random) -> str:
    return json.dumps(fields, ensure_ascii=False, separators=rng.choice(((", ", ": "), (",", ":"))))


def _nested(fields: Fields, rng: random.Random) -> str:
    head, *rest = fields.items()
    at = rng.randint(2, max(2, len(rest) - 1))
    event = {head[0]: head[1], "level": _level(fields), "txn": dict(rest[:at]), "meta": dict(rest[at:])}
    return json.dumps(event, ensure_ascii=False)


def _pairs(fields: Fields, rng: random.Random) -> str:
    mark, gap = rng.choice("=:"), rng.choice((" ", " ", "; ", ", "))
    return gap.join(f"{key}{mark}{value}" for key, value in fields.items())


def _quoted(fields: Fields, rng: random.Random) -> str:
    return " ".join(f'{k}="{v}"' if " " in v else f"{k}={v}" for k, v in fields.items())


def _syslog(fields: Fields, rng: random.Random) -> str:
    (_, time), *rest = fields.items()
    host = fields.get("host", "gw")
    pid = rng.randint(100, 9999)
    return f"<{rng.randint(8, 190)}>{time} {host} payments[{pid}]: {_level(fields)} {_pairs(dict(rest), rng)}"


def _csv(fields: Fields, rng: random.Random) -> str:
    """Values alone; personal data keeps its name, as in an export whose last column holds pairs."""
    return ",".join(f"{k}={v}" if k in PII_KEYS else v for k, v in fields.items())


def _pipes(fields: Fields, rng: random.Random) -> str:
    gap = rng.choice((" | ", "|", "~"))
    return gap.join(f"{k}:{v}" if k in PII_KEYS else v for k, v in fields.items())


def _logger(fields: Fields, rng: random.Random) -> str:
    (_, time), *rest = fields.items()
    name = rng.choice(("gateway", "recon.batch", "upi.switch", "settlement", "risk"))
    if rng.random() < 0.5:
        return f"[{time}] {_level(fields)} {name}: {_pairs(dict(rest), rng)}"
    return f"{time} - {name} - {_level(fields)} - {_quoted(dict(rest), rng)}"


def _xml(fields: Fields, rng: random.Random) -> str:
    tags = ((key.replace("@", "").replace("/", ""), value) for key, value in fields.items())
    return "<Txn>" + "".join(f"<{key}>{value}</{key}>" for key, value in tags) + "</Txn>"


def _attributes(fields: Fields, rng: random.Random) -> str:
    tags = ((key.replace("@", "").replace("/", ""), value) for key, value in fields.items())
    return "<Resp " + " ".join(f'{key}="{value}"' for key, value in tags) + "/>"


LAYOUTS: dict[str, Callable[[Fields, random.Random], str]] = {
    "json": _json,
    "nested": _nested,
    "pairs": _pairs,
    "quoted": _quoted,
    "syslog": _syslog,
    "csv": _csv,
    "pipes": _pipes,
    "logger": _logger,
    "xml": _xml,
    "attributes": _attributes,
}
