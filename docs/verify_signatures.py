"""What vouches for a keydrift history from outside: signed notes, checkpoints and the manifest of a pack.
For verify_keydrift.py, which looks for it beside itself, by docs/audit-log.md; with nothing but Python 3.9."""
import argparse, base64, collections, datetime, hashlib, json, pathlib, re

FIRST_LINE, MARK, MOST_BYTES, MOST_SIGNATURES = "keydrift checkpoint v1", "\u2014 ", 4096, 16
FIXED = ("README.md start.json coverage.json configuration.json checkpoints.txt verify_keydrift.py "
         "verify_signatures.py").split()  # what every pack has beside the views
PACK = "manifest.json", "start.json", "keys_before.ndjson"  # what makes a directory one

# Ed25519, by RFC 8032, section 5.1. A point is X, Y, Z and T, with x = X/Z, y = Y/Z and xy = T/Z.
P, ORDER = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT = pow(2, (P - 1) // 4, P)
def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P
def decompress(data):
    """The point of 32 bytes; None if there is none."""
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, number % 2**255 % P
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    root = pow(square, (P + 3) // 8, P)
    for x in (root, root * ROOT % P):
        if (x * x - square) % P == 0:
            x = x if x % 2 == sign else -x % P
            return x, y, 1, x * y % P
    return None
def compress(point):
    x, y, z, _ = point
    inverse = pow(z, -1, P)
    return (y * inverse % P | (x * inverse % P & 1) << 255).to_bytes(32, "little")
def multiply(number, point):
    total = (0, 1, 1, 0)
    while number:
        if number & 1:
            total = add(total, point)
        point, number = add(point, point), number >> 1
    return total

BASE = decompress(b"\x58" + b"\x66" * 31)
def verifies(public, message, signature):
    """Whether 64 bytes are the key's own signature of the message."""
    point, number = decompress(public), int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or number >= ORDER or point is None:
        return False
    hashed = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % ORDER
    negative = (-point[0] % P, point[1], 1, -point[3] % P)
    return compress(add(multiply(number, BASE), multiply(hashed, negative))) == signature[:32]

# Signed notes, as C2SP has them.
def is_name(name):
    return name != "" and not any(c.isspace() or c == "+" or ord(c) < 32 or 127 <= ord(c) < 160 for c in name)
def decode(text):
    """What Base64 stands for; None if it is not the one text for it."""
    if len(text) % 4 or not re.fullmatch("[A-Za-z0-9+/]*={0,2}", text):
        return None
    decoded = base64.b64decode(text)
    return decoded if base64.b64encode(decoded) == text.encode() else None
def read_key(text):
    """The name, the id and the bytes of a public key."""
    name, said, encoded = (text.split("+", 2) + ["", ""])[:3]
    tagged = decode(encoded) or b""
    own_id = hashlib.sha256(name.encode() + b"\n" + tagged).digest()[:4]
    if not is_name(name) or tagged[:1] != b"\x01" or len(tagged) != 33 or own_id.hex() != said:
        raise ValueError(f"`{text}` is no public key of the form NAME+HASH+BASE64, or is misspelt")
    return name, own_id, tagged[1:]
def read_signature(line):
    """The name, the id and the bytes of a signature; None if the line is no signature."""
    name, _, encoded = line[len(MARK):].partition(" ")
    decoded = decode(encoded) or b""
    if not line.startswith(MARK) or not is_name(name) or len(decoded) < 4 + 64:
        return None
    return name, decoded[:4], decoded[4:]
def standing(text, signatures, keys):
    """Whether one of the keys signed it: `signed`, `unsigned`, or `forged` if it says so and is not."""
    found = "unsigned"
    for name, own_id, public in keys:
        for signature in signatures:
            if signature[:2] == (name, own_id):
                if not verifies(public, text.encode(), signature[2]):
                    return "forged"
                found = "signed"
    return found

# Checkpoints.
def whole_number(text):
    return int(text) if re.fullmatch("0|-?[1-9][0-9]*", text, re.ASCII) and -2**63 <= int(text) < 2**63 else None
def is_time(text):
    try:
        return re.fullmatch("[0-9-]{10}T[0-9:]{8}Z", text) and bool(datetime.datetime.fromisoformat(text[:-1]))
    except ValueError:
        return False
def read_checkpoint(text):
    """What a text says, if it is the one text that says so."""
    pattern = "database (.*)\norganization (.*)\nrun (.*)\n(?:act (.*)\n)?digest ([0-9a-f]{64})\ntime (.*)\n"
    match = re.fullmatch(f"{FIRST_LINE}\n{pattern}", text)
    if not match or "\r\n" in text:
        return None
    database, organization, run, act, digest, time = match.groups()
    run, number = whole_number(run), None if act is None else whole_number(act)
    if run is None or (number is None) != (act is None) or not is_time(time):
        return None
    return {"database": database, "organization": organization, "place": (run, number), "digest": digest, "time": time}

def read_notes(lines):
    """All notes in lines of bytes, and how many are damaged: those are passed over."""
    notes, damaged, state, text = [], 0, "between", ""
    for line in lines:
        try: line = line.decode()
        except ValueError: line = "\ufffd"
        if line == FIRST_LINE:  # begins one, whatever there was
            damaged, state, text = damaged + (state == "text"), "text", line + "\n"
        elif state == "text" and line and len((text + line).encode()) <= MOST_BYTES:
            text += line + "\n"
        elif state == "text":  # it ends here, or is too long
            said = None if line else read_checkpoint(text)
            notes += [{**said, "text": text, "signatures": []}] if said else []
            damaged, state = damaged + (not said), "signatures" if said else "lost"
        elif state == "signatures":  # an empty line ends it, and what else comes behind it is no part of it
            signature = read_signature(line) if len(notes[-1]["signatures"]) < MOST_SIGNATURES else None
            notes[-1]["signatures"] += [signature] if signature else []
            if not signature:
                damaged, state = damaged + (line != ""), "lost" if line else "between"
        elif state == "between" and line:
            damaged, state = damaged + 1, "lost"
    return notes, damaged + (state == "text")

def order(place):
    """A run is before the acts behind it."""
    run, act = place
    return run, act is not None, act or 0

def is_left(note, act):
    """Whether an act gave up a checkpoint that does not agree."""
    if act["kind"] != "accepted" or note["time"] > act["acted_at"]:
        return False
    detail, behind = json.loads(act["detail"]), {"run": act["after_run_id"]}
    first, last = detail.get("since") or behind, detail["checkpoint"]
    return order((first["run"], first.get("act"))) < order(note["place"]) <= order((last["run"], last.get("act")))

class Outside:
    """All that is given of a history from outside of it: checkpoints, public keys and, of a pack, its manifest."""
    def __init__(self, arguments, about, loads):
        """An OSError or a ValueError says that something of it cannot be used."""
        parser = argparse.ArgumentParser(description=about)
        parser.add_argument("source", type=pathlib.Path, metavar="SOURCE",
                            help="a database, an unpacked evidence pack, or a directory with each view as NAME.ndjson")
        parser.add_argument("--checkpoints", action="append", default=[], metavar="FILE")
        parser.add_argument("--public-key", action="append", default=[], metavar="VKEY")
        asked = parser.parse_args(arguments)
        source, files, keys = asked.source, asked.checkpoints, asked.public_key
        self.source, self.loads, self.keys = source, loads, [read_key(key) for key in keys]
        self.is_files = source.is_dir()
        self.before, self.manifest, self.remarked = 0, b"", collections.Counter()
        contents = [open(file, "rb").read() for file in files]
        # A file that ends with a line feed has no empty line behind it; only in a pack it counts as one.
        contents = [content[:-1] if content.endswith(b"\n") else content for content in contents]
        if source.is_dir() and (keys or any((source / name).exists() for name in PACK)):
            self.manifest = (source / "manifest.json").read_bytes()
            if loads(self.manifest)["format"] != "keydrift/evidence/1":
                raise ValueError("its manifest is of another format")
            own = source / "checkpoints.txt"
            contents += [own.read_bytes()] if own.exists() else []
        read = [read_notes(content.split(b"\n")) for content in contents]
        self.notes = [note for notes, _ in read for note in notes]
        self.remarked["could not be read and were passed over"] = sum(damaged for _, damaged in read)
    def rows(self, name, order="1"):
        """The rows of a view from its file."""
        file = self.source / f"{name}.ndjson"
        if " " in name or ("keyframe" in name or "attribution" in name) and not file.exists():
            return iter(())
        columns = re.findall("[a-z_]+", order)
        lines = map(self.loads, file.read_bytes().splitlines())
        return iter(sorted(lines, key=lambda row: [row[column] for column in columns]))
    def check_pack(self):
        """Whether each file is as it was packed. ValueError if not."""
        if self.keys:
            text = f"keydrift evidence v1\nmanifest {hashlib.sha256(self.manifest).hexdigest()}\n"
            file = self.source / "manifest.note"
            said, _, lines = (file.read_bytes() if file.exists() else b"").decode(errors="replace").partition("\n\n")
            signatures = [*filter(None, map(read_signature, lines.replace("\r\n", "\n").split("\n")))]
            if said + "\n" != text or standing(text, signatures, self.keys) != "signed":
                raise ValueError("its manifest is not signed by a key that was given")
        listed = [(file["name"], file["bytes"], file["sha256"]) for file in self.loads(self.manifest)["files"]]
        names = {name for name, *_ in listed}
        found = {file.name: file.read_bytes() for file in self.source.iterdir()}
        for name in sorted(names | (found.keys() - {"manifest.json", "manifest.note"}) | set(FIXED)):
            one = (name, len(found.get(name, b"")), hashlib.sha256(found.get(name, b"")).hexdigest())
            if name not in found or name not in names or any(file != one for file in listed if file[0] == name):
                raise ValueError(f"`{name}` is not what the manifest says")
    def begin(self, chains):
        """Begins with what was before a pack, and gives the last run and the last event of then."""
        start, kept = self.loads((self.source / "start.json").read_bytes()), collections.defaultdict(list)
        for row in self.rows("keys_before", "key_id"):
            kept[row["organization"]].append({**row, "other": self.loads(row["other"])})
        for name, said in start["chains"].items():
            chains[name].head = bytes.fromhex(said["digest"]) if said["digest"] else None
            chains[name].named = said.get("name", chains[name].origin) if said["digest"] else chains[name].origin
            chains[name].called = said.get("name_after", name)  # it may have been renamed since
            chains[name].forgotten.update(said.get("forgotten", []))
            chains[name].unread = start["event_id"]
            for row in kept[name]:  # all that are not late were seen by the last ok run
                if not (row["removed_at"] or row["unconfirmed"] or row["last_seen_at"] in (None, said["last_ok_at"])):
                    raise ValueError(f"key `{row['key_id']}` was not seen at `last_ok_at`")
            chains[name].resume(kept[name], said["last_ok_at"])
        self.before = start["run_id"]
        return start["run_id"], start["event_id"]
    def hold(self, chains, new_chain, rows):
        """Holds all checkpoints against the links of chains. One of a history that is not there gets a new chain."""
        databases = [row["database_id"] for row in rows("chains")]
        databases = databases or [row["id"] for row in rows("select id from installation")]
        last = max([self.before, *(row["run_id"] for row in rows("run_history"))])
        found = {}
        for note in self.notes:
            if databases and note["database"] not in databases:
                self.remarked["do not count: they are of other databases"] += 1
                continue
            stands = standing(note["text"], note["signatures"], self.keys)
            weight = {"forged": 3, "signed": 2}.get(stands) or len(note["signatures"][:1])
            at = note["organization"], order(note["place"]), note["digest"]
            if at not in found or weight > found[at][0]:  # what proves more counts, and a forgery always
                found[at] = weight, stands, note
        for _, (_, stands, note) in sorted(found.items(), key=lambda item: item[0]):
            origin, (run_id, act) = note["organization"], note["place"]
            known = next((chain for chain in chains.values() if chain.origin == origin), None)
            chain = known or new_chain(origin, origin)
            link = chain.links.get(note["place"])
            # Of a pack, only what is of its time; an act behind its last run may have been done later.
            if self.manifest and not link and not self.before < run_id <= last - (act is not None):
                continue
            what = f"it is not what its checkpoint of {note['time']} says"
            if stands == "forged":
                what = "a signature of its checkpoint names a key that was given and is not its own"
            elif self.keys and stands == "unsigned":
                self.remarked["do not count: they have no signature by a key that was given"] += 1
                continue
            elif link and link.hex() == note["digest"] or any(is_left(note, act) for act in chain.acts):
                continue
            chains.setdefault(chain.name, chain).fail(run_id if known else 0, what)
    def remarks(self):
        if not self.notes:
            yield "no checkpoints"
        if not self.keys and (self.notes or self.manifest):
            yield "signatures of checkpoints were not checked: no public key was given"
        for why, number in self.remarked.items():
            if number:
                yield f"{number} checkpoints {why}"
