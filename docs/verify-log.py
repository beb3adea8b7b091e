#!/usr/bin/env python3
"""Verifies what `minikeep audit export FILE` wrote, without minikeep: python3 verify-log.py FILE. Needs openssl."""
import base64, hashlib, json, subprocess, sys, tempfile

lines = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
begin, events, end = lines[0], lines[1:-1], lines[-1]
if begin.get("format") != "minikeep log 1" or "signature" not in end:
    sys.exit("BAD: the file was cut, or is no export")
digest = bytes(32)
for number, event in enumerate(events, 1):
    if event["number"] != number:
        sys.exit(f"BAD: entry {number} is missing")
    sha = hashlib.sha256(b"minikeep event 1\n" + digest)
    for field in (str(number), str(event["at_ms"]), event["kind"], event["data"]):
        sha.update(f"{len(field.encode())}:{field}".encode())
    digest = sha.digest()
    if digest.hex() != event["digest"]:
        sys.exit(f"BAD: entry {number} was changed")
if (end["number"], end["digest"]) != (len(events), digest.hex()):
    sys.exit(f"BAD: the log ends at entry {len(events)}, and was signed at {end['number']}")
signed = f"minikeep log head 1\n{begin['cluster']}\n{end['era']}\n{end['number']}\n{end['digest']}\n{end['at_ms']}\n"
with tempfile.TemporaryDirectory() as folder:
    files = {"key": begin["authority_key"].encode(), "text": signed.encode(), "sig": base64.b64decode(end["signature"])}
    for name, content in files.items():
        open(f"{folder}/{name}", "wb").write(content)
    check = ["openssl", "dgst", "-sha256", "-verify", f"{folder}/key", "-signature", f"{folder}/sig", f"{folder}/text"]
    if subprocess.run(check, capture_output=True).returncode != 0:
        sys.exit("BAD: the end is not signed by the key in the file")
key = hashlib.sha256(begin["authority_key"].encode()).hexdigest()
print(f"OK: {len(events)} entries of {begin['cluster']}; compare the key's SHA-256 with `minikeep audit verify`: {key}")
