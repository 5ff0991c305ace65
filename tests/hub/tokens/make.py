#!/usr/bin/env python3
"""Writes good.txt and bad.txt: tokens for the tests, made with Python's own hmac.

A line is a name, for a bad token the reason why it is refused, and the token, with tabs between. The tests
check them one billion seconds after 1970, with the first two secrets below. Run this script in its folder
after a change; its output is the same in each run.
"""

import base64
import hashlib
import hmac
import json

NOW = 1_000_000_000
SECRET = b"the first secret of the tests, 40 bytes."
OTHER_SECRET = b"the second secret of the tests, which is accepted too"
WRONG_SECRET = b"a secret of somebody else, 40 bytes long"
DIGESTS = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}
RIGHTS = {"subscribe": ["*"], "publish": ["*"]}
PUBLIC_KEY = b"""-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9
q9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==
-----END PUBLIC KEY-----
"""


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def text_of(value):
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    return json.dumps(value, separators=(",", ":")).encode()


def mac(signed, secret=SECRET, algorithm="HS256"):
    return hmac.new(secret, signed.encode(), DIGESTS[algorithm]).digest()


def token(payload=None, header=None, secret=SECRET, algorithm="HS256"):
    """A token that is signed as `algorithm` says, whatever its header says."""
    header = {"alg": algorithm, "typ": "JWT"} if header is None else header
    payload = claims() if payload is None else payload
    signed = encode(text_of(header)) + "." + encode(text_of(payload))
    return signed + "." + encode(mac(signed, secret, algorithm))


def claims(**changes):
    """The claims of a good token, with these changes. None leaves a claim out."""
    all_claims = {"sub": "ann", "exp": NOW + 3600, "waterwheel": RIGHTS} | changes
    return {name: value for name, value in all_claims.items() if value is not None}


def deep(depth):
    value = 0
    for _ in range(depth):
        value = [value]
    return value


GOOD = token()
HEADER, PAYLOAD, SIGNATURE = GOOD.split(".")
RIGHTS_TEXT = json.dumps(RIGHTS, separators=(",", ":"))
# Ends with a letter of which four bits count: its neighbour in the alphabet decodes to the same bytes.
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
TWIN = SIGNATURE[:-1] + ALPHABET[ALPHABET.index(SIGNATURE[-1]) + 1]

good = {
    "HS256": GOOD,
    "HS384": token(algorithm="HS384"),
    "HS512": token(algorithm="HS512"),
    "the second secret": token(secret=OTHER_SECRET),
    "no typ": token(header={"alg": "HS256"}),
    "typ in lower case": token(header={"typ": "jwt", "alg": "HS256"}),
    "kid is ignored": token(header={"alg": "HS256", "typ": "JWT", "kid": "../../dev/null"}),
    "spaces in the JSON": token(json.dumps(claims(), indent=2), ' {"alg" : "HS256"} '),
    "escaped names": token('{"\\u0065xp":1000003600,"sub":"a\\u006en","waterwheel":' + RIGHTS_TEXT + "}"),
    "within the leeway after exp": token(claims(exp=NOW - 29)),
    "within the leeway before nbf": token(claims(nbf=NOW + 30)),
    "exp with a fraction": token(claims(exp=NOW + 3600.75)),
    "exp as 1e9": token('{"sub":"ann","exp":1.0000036e9,"waterwheel":' + RIGHTS_TEXT + "}"),
    "nbf and iat": token(claims(nbf=NOW - 1, iat=NOW - 1)),
    "claims of others": token(claims(aud=["a"], iss="b", jti="c", name={"d": None})),
    "a hundred patterns": token(claims(waterwheel={"subscribe": ["*"] * 100, "publish": ["*"]})),
    "info of depth 32": token(claims(waterwheel=RIGHTS | {"info": deep(32)})),
    "fields of a later version": token(claims(waterwheel=RIGHTS | {"later": 1})),
}

# By the reason why they are refused, as `TokenError` says it.
bad = {
    "Expired": {
        "expired": token(claims(exp=NOW - 3600)),
        "expired with the leeway": token(claims(exp=NOW - 30)),
        "expired with a fraction": token(claims(exp=NOW - 29.5)),
        "expired at zero": token(claims(exp=0)),
    },
    "NotYetValid": {
        "not yet valid": token(claims(nbf=NOW + 31)),
        "not yet valid for a fraction": token(claims(nbf=NOW + 30.5)),
    },
    'Claim("exp")': {
        "no exp": token(claims(exp=None)),
        "exp is text": token(claims(exp=str(NOW + 3600))),
        "exp is true": token(claims(exp=True)),
        "exp is an array": token(claims(exp=[NOW + 3600])),
        "exp is null": token('{"exp":null,"waterwheel":' + RIGHTS_TEXT + "}"),
        "exp is negative": token(claims(exp=-1)),
        "exp is beyond all bounds": token('{"exp":1e300,"waterwheel":' + RIGHTS_TEXT + "}"),
        "exp is no number": token('{"exp":1e999,"waterwheel":' + RIGHTS_TEXT + "}"),
    },
    "Payload": {
        "exp is NaN": token('{"exp":NaN,"waterwheel":' + RIGHTS_TEXT + "}"),
        "exp twice": token('{"exp":1000003600,"exp":1000003600,"waterwheel":' + RIGHTS_TEXT + "}"),
        "exp twice, once escaped": token('{"exp":0,"\\u0065xp":1000003600,"waterwheel":' + RIGHTS_TEXT + "}"),
        "an unknown claim twice": token('{"a":1,"a":2,"exp":1000003600,"waterwheel":' + RIGHTS_TEXT + "}"),
        "waterwheel twice": token('{"waterwheel":{},"exp":1000003600,"waterwheel":' + RIGHTS_TEXT + "}"),
        "payload is empty": token(""),
        "payload is text": token("let me in"),
        "payload is an array": token([claims()]),
        "payload is a string": token(json.dumps(json.dumps(claims()))),
        "payload is cut": token(text_of(claims())[:-1]),
        "payload goes on": token(text_of(claims()) + b"{}"),
        "payload is not UTF-8": token(b'{"exp":1000003600,"sub":"\xff","waterwheel":' + RIGHTS_TEXT.encode() + b"}"),
        "payload is UTF-16": token(json.dumps(claims()).encode("utf-16")),
        "payload is too deep": token(claims(name=deep(129))),
        "payload has too many names": token(claims(**{str(n): n for n in range(64)})),
    },
    'Claim("nbf")': {
        "nbf is text": token(claims(nbf="0")),
        "nbf is null": token('{"exp":1000003600,"nbf":null,"waterwheel":' + RIGHTS_TEXT + "}"),
    },
    'Claim("iat")': {
        "iat is text": token(claims(iat="yesterday")),
    },
    'Claim("sub")': {
        "sub is a number": token(claims(sub=7)),
        "sub is an object": token(claims(sub={"name": "ann"})),
        "sub is null": token('{"exp":1000003600,"sub":null,"waterwheel":' + RIGHTS_TEXT + "}"),
        "sub is empty": token(claims(sub="")),
        "sub has a line end": token(claims(sub="ann\nbob")),
        "sub is too long": token(claims(sub="a" * 257)),
    },
    'Claim("waterwheel")': {
        "waterwheel is an array": token(claims(waterwheel=["*"])),
        "waterwheel is text": token(claims(waterwheel="*")),
        "waterwheel is true": token(claims(waterwheel=True)),
        "subscribe twice": token('{"exp":1000003600,"waterwheel":{"subscribe":[],"subscribe":["*"]}}'),
    },
    'Claim("subscribe")': {
        "subscribe is text": token(claims(waterwheel={"subscribe": "*", "publish": ["*"]})),
        "subscribe is true": token(claims(waterwheel={"subscribe": True, "publish": ["*"]})),
        "subscribe is an object": token(claims(waterwheel={"subscribe": {"*": True}})),
        "subscribe is null": token('{"exp":1000003600,"waterwheel":{"subscribe":null,"publish":["*"]}}'),
        "a pattern is a number": token(claims(waterwheel={"subscribe": ["*", 1]})),
        "a pattern is empty": token(claims(waterwheel={"subscribe": ["", "*"]})),
        "a pattern is too long": token(claims(waterwheel={"subscribe": ["*", "a" * 257]})),
        "too many patterns": token(claims(waterwheel={"subscribe": ["*"] * 101})),
    },
    'Claim("publish")': {
        "a pattern is an array": token(claims(waterwheel={"publish": [["*"]]})),
        "a pattern has a line end": token(claims(waterwheel={"publish": ["*", "a\nb"]})),
        "publish is text": token(claims(waterwheel={"subscribe": ["*"], "publish": "*"})),
    },
    'Claim("info")': {
        "info of depth 33": token(claims(waterwheel=RIGHTS | {"info": deep(33)})),
    },
    "Algorithm": {
        "none": encode(b'{"alg":"none"}') + "." + PAYLOAD + ".",
        "none with a signature": token(header={"alg": "none"}),
        "none with the signature of another header": encode(b'{"alg":"none"}') + "." + PAYLOAD + "." + SIGNATURE,
        "None": encode(b'{"alg":"None"}') + "." + PAYLOAD + ".",
        "NONE": encode(b'{"alg":"NONE"}') + "." + PAYLOAD + ".",
        "nOnE": encode(b'{"alg":"nOnE"}') + "." + PAYLOAD + ".",
        "none with a space": encode(b'{"alg":"none "}') + "." + PAYLOAD + ".",
        "alg is empty": token(header={"alg": ""}),
        "alg is missing": token(header={"typ": "JWT"}),
        "alg is null": token(header={"alg": None}),
        "alg is a number": token(header={"alg": 256}),
        "alg is an array": token(header={"alg": ["HS256"]}),
        "alg in lower case": token(header={"alg": "hs256"}),
        "alg with a space": token(header={"alg": "HS256 "}),
        "RS256 with the HMAC of a public key": token(header={"alg": "RS256", "typ": "JWT"}, secret=PUBLIC_KEY),
        "RS256": token(header={"alg": "RS256", "typ": "JWT"}),
        "ES256": token(header={"alg": "ES256", "typ": "JWT"}),
        "PS256": token(header={"alg": "PS256", "typ": "JWT"}),
        "EdDSA": token(header={"alg": "EdDSA", "typ": "JWT"}),
        "HS1": token(header={"alg": "HS1", "typ": "JWT"}),
        "parts in the order 2 1 3": PAYLOAD + "." + HEADER + "." + SIGNATURE,
        "parts in the order 2 3 1": PAYLOAD + "." + SIGNATURE + "." + HEADER,
    },
    "Header": {
        "alg twice": token(header='{"alg":"none","alg":"HS256"}'),
        "alg twice, once escaped": token(header='{"alg":"HS256","\\u0061lg":"none"}'),
        "crit": token(header={"alg": "HS256", "crit": ["exp"], "exp": 1}),
        "crit is empty": token(header={"alg": "HS256", "crit": []}),
        "b64": token(header={"alg": "HS256", "b64": False}),
        "typ is a number": token(header={"alg": "HS256", "typ": 1}),
        "typ of another purpose": token(header={"alg": "HS256", "typ": "logout+jwt"}),
        "header is an array": token(header=[{"alg": "HS256"}]),
        "header is text": token(header="HS256"),
        "header is empty": token(header=""),
        "header is cut": token(header='{"alg":"HS256"'),
        "header is not UTF-8": token(header=b'{"alg":"HS256","kid":"\xff"}'),
        "dots alone": "..",
        "header left out": "." + PAYLOAD + "." + SIGNATURE,
        "parts in the order 3 1 2": SIGNATURE + "." + HEADER + "." + PAYLOAD,
        "parts in the order 3 2 1": SIGNATURE + "." + PAYLOAD + "." + HEADER,
    },
    "Signature": {
        "HS256 with the HMAC of a public key": token(secret=PUBLIC_KEY),
        "HS512 with the signature of HS256": token(header={"alg": "HS512", "typ": "JWT"}),
        "HS256 with the signature of HS512": token(header={"alg": "HS256", "typ": "JWT"}, algorithm="HS512"),
        "the key stands in the header": token(
            header={"alg": "HS256", "jwk": {"kty": "oct", "k": encode(WRONG_SECRET)}}, secret=WRONG_SECRET
        ),
        "the address of a key stands in the header": token(
            header={"alg": "HS256", "jku": "https://example.org/keys"}, secret=WRONG_SECRET
        ),
        "another secret": token(secret=WRONG_SECRET),
        "an empty secret": token(secret=b""),
        "a part of the secret": token(secret=SECRET[:32]),
        "no signature": HEADER + "." + PAYLOAD + ".",
        "half a signature": HEADER + "." + PAYLOAD + "." + encode(mac(HEADER + "." + PAYLOAD)[:16]),
        "a signature of zeros": HEADER + "." + PAYLOAD + "." + encode(bytes(32)),
        "a signature and a byte": HEADER + "." + PAYLOAD + "." + encode(mac(HEADER + "." + PAYLOAD) + b"\0"),
        "one bit of the signature": HEADER + "." + PAYLOAD + "." + encode(mac(HEADER + "." + PAYLOAD)[:-1] + b"\0"),
        "the signature of another payload": HEADER + "." + encode(text_of(claims(sub="bob"))) + "." + SIGNATURE,
        "the signature of the payload alone": HEADER + "." + PAYLOAD + "." + encode(mac(PAYLOAD)),
        "a plain digest": HEADER + "." + PAYLOAD + "." + encode(hashlib.sha256((HEADER + "." + PAYLOAD).encode()).digest()),
        "payload left out": HEADER + ".." + SIGNATURE,
        "parts in the order 1 3 2": HEADER + "." + SIGNATURE + "." + PAYLOAD,
        "hexadecimal signature": HEADER + "." + PAYLOAD + "." + mac(HEADER + "." + PAYLOAD).hex(),
    },
    "Parts": {
        "empty": "",
        "one part": HEADER,
        "two parts": HEADER + "." + PAYLOAD,
        "four parts": GOOD + "." + SIGNATURE,
        "five parts": GOOD + "." + PAYLOAD + "." + SIGNATURE,
        "a dot behind it": GOOD + ".",
        "a dot before it": "." + GOOD,
        "two dots": HEADER + ".." + PAYLOAD + "." + SIGNATURE,
        "doubled": GOOD + GOOD,
        "doubled with a dot": GOOD + "." + GOOD,
        "doubled with a comma": GOOD + "," + GOOD,
        "padding": GOOD + "=",
        "bits that do not count": HEADER + "." + PAYLOAD + "." + TWIN,
        "a letter of base64 alone": GOOD[:-3] + "+/A",
        "not base64url": HEADER + "." + PAYLOAD + ".!!!!",
        "JSON as it is": json.dumps({"alg": "HS256"}) + "." + json.dumps(claims()) + "." + SIGNATURE,
        "JSON serialization": json.dumps({"protected": HEADER, "payload": PAYLOAD, "signature": SIGNATURE}),
        "a letter beyond ASCII": HEADER + "." + PAYLOAD + "." + SIGNATURE[:-1] + "\u0101",
        "encoded dots": GOOD.replace(".", "%2E"),
        "quotes": '"' + GOOD + '"',
    },
    "TooLong": {
        "huge": token(claims(name="a" * 3000)),
        "huge and empty": "." * 5000,
    },
}

with open("good.txt", "w", encoding="utf-8") as out:
    out.writelines(f"{name}\t{text}\n" for name, text in good.items())
with open("bad.txt", "w", encoding="utf-8") as out:
    for reason, tokens in bad.items():
        assert not set(tokens.values()) & set(good.values()), reason
        out.writelines(f"{name}\t{reason}\t{text}\n" for name, text in tokens.items())
