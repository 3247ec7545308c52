#!/usr/bin/env python3
"""Verifies a keydrift history without keydrift: by docs/audit-log.md, with nothing but Python 3.9.
SOURCE is a database, the directory of an unpacked evidence pack, or one with the rows of the views as NAME.ndjson.
Exit: 0 whole, 3 broken, 2 not readable."""
import argparse, base64, collections, hashlib, hmac, json, math, pathlib, re, sqlite3, struct, sys
EVENT = "event_id run_id observed_at previous_observed_at scope key_id key_name event field".split()
ACT = "act_id after_run_id kind acted_at actor detail".split()
RUN = ("run_id trigger started_at finished_at status keys_seen baseline added restored removed used changed "
       "unconfirmed skipped pages requests retries notice error missing deferred_until").split()
COLUMNS = {name.replace("owner_", "owner."): name for name in ("name redacted_value project_id project_name owner_type "
           "owner_id owner_name owner_role created_at last_used_at expires_at").split()}  # by where the API has them
KEPT = "scope own_key first_seen_at last_seen_at removed_at unconfirmed".split()  # of a key in a keyframe
PERSONAL = re.compile(r"owner_name( twice)?|owner\.(.*[._])?(name|email|ip_address)", re.DOTALL)
def open_source(path):  # gives what gives the rows of a view, sorted
    database = None if path.is_dir() else sqlite3.connect(path.resolve().as_uri() + "?mode=ro", uri=True)
    if database: database.row_factory, _ = sqlite3.Row, database.execute("begin")  # one state of the file for all
    def rows(name, order="1"):
        if database: return database.execute(name if " " in name else f"select * from {name} order by {order}")
        file = path / f"{name}.ndjson"
        lines = [] if " " in name or "keyframe" in name and not file.exists() else open(file, "rb").read().splitlines()
        return iter(sorted(map(loads, lines), key=lambda row: [row[column] for column in re.findall("[a-z_]+", order)]))
    return rows
def loads(text):
    def number(text):  # what has no place in 64 bits, and minus zero, counts as a double
        whole = re.fullmatch("-?[0-9]+", text) and text != "-0" and -2**63 <= int(text) < 2**64
        return int(text) if whole else float(json.dumps(float(text), allow_nan=False))
    return json.loads(text, parse_int=number, parse_float=number, parse_constant=number)
class Seal(bytes): pass  # what stands in a digest for the name or an address of a person
def encode(value):  # canonical bytes
    def sized(tag, size, *content): return tag + struct.pack(">Q", size) + b"".join(content)
    if value is None or isinstance(value, bool): return b"n" if value is None else b"b" + bytes([value])
    if isinstance(value, bytes): return (b"s" if isinstance(value, Seal) else b"d") + value
    if isinstance(value, float): return b"f" + struct.pack(">d", value)
    if isinstance(value, (int, str)):
        text = str(value).encode()
        return sized(b"i" if isinstance(value, int) else b"t", len(text), text)
    if isinstance(value, dict): return sized(b"m", len(value), *(encode(k) + encode(value[k]) for k in sorted(value)))
    return sized(b"l", len(value), *map(encode, value))
def digest(*values): return hashlib.sha256(b"".join(map(encode, values))).digest()
def seal(field, value, salt, erased):
    if value is None or not PERSONAL.fullmatch(field): return value
    if value == "erased" and field in erased: return Seal.fromhex(erased[field])
    return Seal(hmac.digest(bytes.fromhex(salt), encode(value), "sha256")) if salt else value
def sealed(key, *secrets):  # a whole key
    def members(of): return {name: seal(name, value, *secrets) for name, value in of.items()}
    return {**members(key), "other": members(key["other"])}
def event_item(event, secrets):
    def side(name):
        text, own = event[f"{name}_value"], secrets("event", event["event_id"], name)
        if text is None or event["event"] in ("used", "changed"): return seal(event["field"] or "", text, *own)
        return sealed(loads(text), *own)
    return [*(event[column] for column in EVENT), side("old"), side("new")]
def notice_item(notice, secrets):
    number, kind, field, changes = (notice[name] for name in ("notice_id", "kind", "field", "changes"))
    return [number, notice["run_id"], kind, field, [
        [key, seal(field, value, *secrets("notice", number, key))] for key, value, *_ in loads(changes)]]
def whole(row): return {**row, "other": loads(row["other"])}
def fields(key):  # by name: what is in a column as it is, any other value as the one item of a list
    found = {name: key[name] for name in ("scope", *COLUMNS.values()) if key[name] is not None}
    for path, value in key["other"].items():
        found[COLUMNS.get(path, path) + " twice" * (COLUMNS.get(path, path) in found)] = [value]
    return found
def meaning(field, text):
    column = field in COLUMNS.values()
    if text is None or field == "scope" or column and not text.startswith("json:"): return text
    try: encode(value := loads(text[5:] if column else text))
    except ValueError: value = text
    return value if column and str(value).startswith("json:") and not field.endswith("_at") else [value]
def refuse(refused, why):
    if refused: raise ValueError(why)
class Chain:  # the history of one organization: its links, and the inventory that they lead to
    def __init__(self, name, origin):
        self.name, self.origin, self.runs, self.events, self.acts, self.links = name, origin, [], 0, [], {}
        self.bad = None if name == origin else (0, f"its chain began under another name, `{origin}`")
        self.head, self.adopting, self.unchecked, self.forgotten, self.misplaced = None, [], False, set(), False
        self.horizons, self.horizon, self.keyframe = collections.Counter(), 0, None
        self.resume([], None)
    def resume(self, rows, last_ok):  # "last_seen_at": None is the last ok run, "?" a time that is not known
        self.keys, self.seen, self.own, self.last_ok = {}, {}, None, last_ok
        for row in rows:
            late = row["removed_at"] or row["unconfirmed"] or not row["last_seen_at"]
            self.seen[row["key_id"]] = {"first_seen_at": row["first_seen_at"], "removed_at": row["removed_at"],
                                        "last_seen_at": (row["last_seen_at"] or "?") if late else None}
            self.keys[row["key_id"]], self.own = fields(row), row["key_id"] if row["own_key"] == 1 else self.own
    def prune(self, detail):  # what the newest act says that says anything
        used, events = ((detail.get("horizons") or {}).get(name) or 0 for name in ("used", "events"))
        if (detail.get("keyframe") or {}).get("run") != max(used, events): return
        self.horizons, self.horizon = {"used": used, "events": events, "notices": events}, max(used, events)
        self.keyframe = detail["keyframe"]["digest"], []
    def keep(self, keys, secrets):  # the keyframe that is there, and what enters its digest
        def item(key):
            shown = {name: key[name] for name in ("key_id", *COLUMNS.values(), "other")}
            own = secrets("keyframe", self.horizon, key["key_id"])
            return [sealed(shown, *own), *(key[column] for column in KEPT)]
        if keys: self.keyframe = (self.keyframe or [""])[0], keys, *map(item, keys)
    def fail(self, run_id, what): self.bad = self.bad if self.bad and self.bad[0] <= run_id else (run_id, what)
    def hold(self, run_id, step, *what):
        try: return None if self.bad and self.bad[0] <= run_id else step(*what)
        except Exception as why:  # before anything is adopted, it is all up to there that nothing vouches for
            self.fail(self.runs[0][0] if self.adopting and self.runs else run_id, say(why))
    def run(self, run, span, events, notices, kept, secrets):
        run_id, ok = run["run_id"], run["status"] == "ok"
        header = ["keydrift/run/1", self.origin, *(run[name] for name in RUN)]
        items = {"events": [], "used": [], "notices": [notice_item(notice, secrets) for notice in notices]}
        told = [event_item(event, secrets) for event in events]
        for item in told: items["used" if item[7] == "used" else "events"].append(item)
        parts = {part: [part, len(of), digest("keydrift/part/1", part, *of)] for part, of in items.items() if of}
        gone, ids = {part for part in items if run_id <= self.horizons[part]}, [event["event_id"] for event in events]
        refuse(gone & parts.keys(), "something of it is pruned, and yet there: it was inserted")
        parts.update((part, kept[part]) for part in gone & kept.keys())
        said = {"used": run["used"], "events": len(span) - run["used"]}
        counted = all(parts.get(part, [part, 0])[1] == said[part] for part in said if run["digest"] or part not in gone)
        refuse(any((event["organization"], event["run_id"]) != (self.name, run_id) for event in events) or not counted
               or ids != sorted({number for number in ids if number in span}) or len(ids) < len(span) and not gone
               or span and not ok, "an event of it was moved, dropped or inserted")
        if run["digest"] is None:  # from before the chain
            refuse(self.head or kept, "it has no digest")
            self.adopting += [*told, header, *items["notices"]]
            self.unchecked |= bool(gone) and ok
        else:
            refuse(self.adopting, "what was before the chain was not adopted by it")
            self.head = digest([*header, self.head, [parts[part] for part in items if part in parts]])
            refuse(self.head.hex() != run["digest"] or parts != kept,
                   "it, an event, a notice or the link before it was edited, dropped or inserted")
            self.links[run_id, 0] = self.head
        if run_id > self.horizon:
            for event in events: self.event(event, run["finished_at"])
            for notice in notices: self.notice(notice["kind"], notice["field"], notice["changes"])
        if run_id == self.horizon:  # the replay begins here, with the keyframe
            said, rows, *items = self.keyframe
            refuse(digest("keydrift/keyframe/1", *items).hex() != said, "the keyframe was edited")
            self.keyframe = self.resume(rows, run["finished_at"])
        self.runs.append((run_id, run["finished_at"]))
        self.events, self.last_ok = self.events + len(events), run["finished_at"] if ok else self.last_ok
    def act(self, act, erased):
        number, detail = act["act_id"], loads(act["detail"])
        link = digest(["keydrift/act/1", self.origin, *(act[column] for column in ACT), self.head])
        refuse(link.hex() != act["digest"], f"act {number}, or the link before it, was edited, dropped or inserted")
        if act["kind"] == "adopted":
            if not self.unchecked and digest("keydrift/part/1", "adopted", *self.adopting).hex() != detail["digest"]:
                return self.fail(self.runs[0][0], "something before the chain was edited, dropped or inserted")
            self.adopting = []  # when a key was last seen that was gone by then, it does not say
            for key, seen in self.seen.items():
                seen["last_seen_at"] = "?" if seen["removed_at"] else detail["unconfirmed"].get(key)
        said = detail["places"] if act["kind"] == "forgotten" else 0
        refuse(erased and said != erased[number], f"act {number} erased {said} values, and others say that it did")
        self.head = self.links[act["after_run_id"], number] = link
        self.acts.append(act)
    def at(self, key_id, state):
        seen = self.seen.get(key_id)
        found = "gone" if seen and seen["removed_at"] else "there" if seen else "new"
        return refuse(found != state, f"key `{key_id}` was not {state} before") or seen
    def compare(self, what, key_id, expected, found, forgotten=True):
        for name in sorted({*expected, *found}):
            one, other = expected.get(name), found.get(name)  # what was erased, nobody can say any more
            erased = one in ("erased", ["erased"]) or forgotten and other in ("erased", ["erased"])
            refuse(encode(one) != encode(other) and (name, key_id) != ("last_used_at", self.own) and not (
                erased and PERSONAL.fullmatch(name)), f"{what} does not follow: `{name}` of key `{key_id}` is another")
    def event(self, event, finished_at):
        what, kind, key_id, field = f"event {event['event_id']}", event["event"], event["key_id"], event["field"]
        seen = self.at(key_id, {"baseline": "new", "added": "new", "restored": "gone"}.get(kind, "there"))
        before = self.keys.get(key_id)
        if kind in ("used", "changed"):
            self.compare(what, key_id, {field: before.get(field)}, {field: meaning(field, event["old_value"])})
            before[field] = meaning(field, event["new_value"])
        elif kind == "removed":
            self.keys[key_id] = fields({**event, **loads(event["old_value"])})
            self.compare(what, key_id, before, self.keys[key_id])
            self.own = None if self.own == key_id else self.own
            seen.update(removed_at=finished_at, last_seen_at=seen["last_seen_at"] or self.last_ok)
        else:
            self.keys[key_id] = fields({**event, **loads(event["new_value"])})
            self.seen[key_id] = {"first_seen_at": finished_at, **(seen or {}), "last_seen_at": None, "removed_at": None}
    def notice(self, kind, field, changes):
        for key_id, value, *_ in loads(changes):
            seen = self.at(key_id, "there")
            if kind == "own_key": self.own = key_id if value else None if self.own == key_id else self.own
            elif kind == "unconfirmed": seen["last_seen_at"] = self.last_ok if value else None
            else: self.keys[key_id][field] = meaning(field, value)
    def inventory(self, rows):
        refuse(self.keyframe, "a keyframe was inserted")
        for row in map(whole, rows):
            key_id, seen = row["key_id"], self.seen.get(row["key_id"], {"last_seen_at": "never"})
            unknown = self.adopting or seen["last_seen_at"] == "?"  # from before the chain, which tells it
            last = row["last_seen_at"] if unknown else seen["last_seen_at"] or self.last_ok
            expected = {**self.keys.get(key_id, {}), **seen, "last_seen_at": last, "own": key_id == self.own}
            found = {"own": row["own_key"] == 1, **{name: row[name] for name in seen}, **fields(row)}
            if "unconfirmed" in row:  # as in packs
                expected["unconfirmed"] = int(not seen.get("removed_at") and seen["last_seen_at"] not in (None, "?"))
                found["unconfirmed"] = row["unconfirmed"]
            self.compare("the inventory", key_id, expected, found, row["owner_id"] in self.forgotten)
        lost = self.seen.keys() - {row["key_id"] for row in rows}
        refuse(lost, f"the inventory does not follow from the history: {lost} are not in it")
def read(rows, chains, start, pack):  # all histories from the first run to the last, and what they lead to
    parts, erased, salts = map(collections.defaultdict, (dict, dict, str))
    notices, behind, named, kept = map(collections.defaultdict, [list] * 4)
    def secrets(place, number, of): return salts[place, number, of.split("\0")[0]], erased[place, number, of]
    for row in rows("erased_values"):
        erased[row["place"], row["id"], row["side"] or row["key_id"]][row["field"]] = row["seal"]
        named[row["place"], row["id"]].append(row["act_id"])
    for row in rows("run_parts"):
        parts[row["run_id"]][row["part"]] = [row["part"], row["items"], bytes.fromhex(row["digest"])]
    for row in rows("audit_salts"):
        salts.update({("event", row["event_id"], side): row[f"{side}_salt"] for side in ("old", "new")})
    for row in rows("notice_salts"): salts["notice", row["notice_id"], row["key_id"].split("\0")[0]] = row["salt"]
    for row in rows("notice_history", "notice_id"): notices[row["run_id"]].append(row)
    for name in ("all_keys", "keyframe_keys", *["keys_before"] * pack):
        for row in rows(name, "key_id"): kept[name, row["organization"]].append(row)
    acts, runs = {act["act_id"]: act for act in rows("act_history", "act_id")}, list(rows("run_history", "run_id"))
    for act in acts.values():  # in a pack, those behind runs before it are the first
        chain, after, detail = chains[act["organization"]], act["after_run_id"], loads(act["detail"])
        behind[chain.name, start["run_id"] if 0 <= after <= start["run_id"] else after].append(act)
        if act["kind"] == "pruned" and not pack: chain.prune(detail)  # of what is pruned, there are no packs
        if act["kind"] == "forgotten": chain.forgotten.add(detail.get("owner_id"))
    for row in rows("keyframe_salts"):  # an older SQLite ends a text at its first zero
        salts["keyframe", chains[row["organization"]].horizon, row["key_id"].split("\0")[0]] = row["salt"]
    for name, said in start["chains"].items():
        chains[name].head = bytes.fromhex(said["digest"]) if said["digest"] else None
        chains[name].forgotten.update(said.get("forgotten", []))
        for row in kept["keys_before", name]:  # all that are not late were seen by the last ok run
            seen = row["removed_at"] or row["unconfirmed"] or row["last_seen_at"] in (None, said["last_ok_at"])
            refuse(not seen, f"key `{row['key_id']}` was not seen at `last_ok_at`")
        chains[name].resume(map(whole, kept["keys_before", name]), said["last_ok_at"])
    for run in [run for run in runs if run["run_id"] < 1 and not pack]:
        chains[run["organization"]].fail(runs.pop(0)["run_id"], "it was inserted")
    missing = next((number for number, run in enumerate(runs, start["run_id"] + 1) if number != run["run_id"]), None)
    said = None if pack else collections.Counter(number for numbers in named.values() for number in numbers)
    for chain in chains.values():
        if missing: chain.fail(missing, "it is missing")
        chain.keep([*map(whole, kept["keyframe_keys", chain.name])], secrets)
        for act in behind.pop((chain.name, start["run_id"]), []): chain.hold(0, chain.act, act, said)
    events, last = rows("audit_history", "event_id"), start["event_id"]
    event = next(events, None)
    for run in [last, *runs, math.inf]:  # events before and after those of all runs were inserted
        stray, mine = isinstance(run, (int, float)), []
        span = range(last + 1, last + 1 + (0 if stray else sum(run[name] for name in RUN[6:12])))
        last = run if stray else last + len(span)
        while event and event["event_id"] <= last: event = mine.append(event) or next(events, None)
        for one in mine if stray else (): chains[one["organization"]].fail(one["run_id"], "an event of it was inserted")
        if stray: continue
        chain, run_id, told = chains[run["organization"]], run["run_id"], notices.pop(run["run_id"], [])
        chain.hold(run_id, chain.run, run, span, mine, told, parts[run_id], secrets)
        for act in behind.pop((chain.name, run_id), []): chain.hold(run_id, chain.act, act, said)
        for item in [("event", one["event_id"]) for one in mine] + [("notice", one["notice_id"]) for one in told] + [
                ("keyframe", run_id)]:
            of = {acts[number]["organization"] for number in named.get(item, ()) if number in acts}
            chain.misplaced |= bool(of - {chain.name})
    for name, run_id in behind: chains[name].fail(run_id, "there is an act behind it, and it is not there")
    for one in [notice for told in notices.values() for notice in told]:
        chains[one["organization"]].fail(max(one["run_id"], start["run_id"] + 1), "a notice of it was inserted")
    for chain in chains.values():
        if chain.misplaced and not pack: chain.bad = chain.bad or (0, "another organization's act erased values of it")
        if not chain.bad: chain.hold((chain.runs or [(0,)])[-1][0], chain.inventory, kept["all_keys", chain.name])
        if said and said.keys() - acts: chain.bad = chain.bad or (0, "values are erased by acts that are not there")
P, ORDER = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493  # Ed25519, by RFC 8032
D = -121665 * pow(121666, -1, P) % P
def add(p, q):
    t = D * p[0] * q[0] * p[1] * q[1]
    return (p[0] * q[1] + p[1] * q[0]) * pow(1 + t, -1, P) % P, (p[1] * q[1] + p[0] * q[0]) * pow(1 - t, -1, P) % P
def point(data):
    y = int.from_bytes(data, "little") % 2**255
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    root = pow(square, (P + 3) // 8, P)
    x = root if root * root % P == square else root * pow(2, (P - 1) // 4, P) % P
    return (x if x % 2 == data[31] >> 7 else P - x), y
def is_signed(text, line, vkey):
    (name, _, public), signature = vkey.split("+", 2), base64.b64decode(line.rsplit(" ", 1)[-1])
    public = base64.b64decode(public)[1:]
    own_id = hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4]
    if line.split(" ")[:-1] != ["\u2014", name] or signature[:4] != own_id: return False
    first, number = signature[4:36], int.from_bytes(signature[36:], "little")
    hashed = int.from_bytes(hashlib.sha512(first + public + text.encode()).digest(), "little") % ORDER
    (x, y), base, total = point(public), point(b"\x58" + b"\x66" * 31), (0, 1)
    terms = (0, 1), base, (-x, y), add(base, (-x, y))
    for bit in range(255, -1, -1):  # the number times the base, less the hash times the key
        total = add(add(total, total), terms[(number >> bit & 1) + 2 * (hashed >> bit & 1)])
    if number < ORDER and total == point(first): return True
    raise ValueError(f"a signature names the key {name} and is not its own")
def signed(text, note, vkeys): return any(is_signed(text, line, vkey) for line in note.splitlines() for vkey in vkeys)
def check_pack(path, manifest, vkeys):  # each file is as it was packed
    found = {file.name: file.read_bytes() for file in path.iterdir()}
    found = {name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in found.items()
             if name not in ("manifest.json", "manifest.note")}
    listed = {file["name"]: (file["bytes"], file["sha256"]) for file in loads(manifest)["files"]}
    text = f"keydrift evidence v1\nmanifest {hashlib.sha256(manifest).hexdigest()}\n"
    said, _, note = (path / "manifest.note").read_text("utf-8").partition("\n\n") if vkeys else (text[:-1], "", "")
    refuse(said != text[:-1] or vkeys and not signed(text, note, vkeys), "no key that was given signed its manifest")
    for name in found.keys() | listed:
        refuse(found.get(name) != listed.get(name), f"`{name}` is not what the manifest says")
def place(said): return int(said["run"]), int(said.get("act") or 0)
def is_left(link, said, act):  # whether the act gave up the checkpoint
    if act["kind"] != "accepted" or said["time"] > act["acted_at"]: return False
    since = loads(act["detail"]).get("since") or {"run": act["after_run_id"]}
    return place(since) < link <= place(loads(act["detail"])["checkpoint"])
def say(why): return str(why) if type(why) is ValueError else repr(why)
def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path, metavar="SOURCE")
    parser.add_argument("--checkpoints", action="append", default=[], metavar="FILE")
    parser.add_argument("--public-key", action="append", default=[], metavar="VKEY", dest="vkeys")
    asked = parser.parse_args(arguments)
    source, vkeys, about, chains, damage, ignored = asked.source, asked.vkeys, [], {}, [], 0
    start, pack = {"run_id": 0, "event_id": 0, "chains": {}}, source.is_dir() and bool(vkeys or any(
        (source / name).exists() for name in ("manifest.json", "start.json", "keys_before.ndjson")))
    try:
        rows, manifest = open_source(source), (source / "manifest.json").read_bytes() if pack else b""
        refuse(pack and loads(manifest)["format"] != "keydrift/evidence/1", "its manifest is of another format")
        about = [] if pack else list(rows("chains"))
        files = [*asked.checkpoints, *(path for path in source.glob("checkpoints.txt") if pack)]
        blocks = [block for file in files for block in open(file, encoding="utf-8").read().split("\n\n")]
    except (OSError, sqlite3.Error, ValueError, TypeError, KeyError) as why:
        return print(f"{source} cannot be read: {why}", file=sys.stderr) or 2
    try:
        if pack: check_pack(source, manifest, vkeys)
        if pack: about, start = list(rows("chains")), loads((source / "start.json").read_bytes())
        chains = {row["organization"]: Chain(row["organization"], row["origin"]) for row in about}
        damage = [row["integrity_check"] for row in rows("pragma integrity_check(1)") if row["integrity_check"] != "ok"]
        damage += [f"a row of {row['table']} refers to one that is lost" for row in rows("pragma foreign_key_check")]
        read(rows, chains, start, pack)
        newest = max([start["run_id"], *(run_id for chain in chains.values() for run_id, _ in chain.runs)])
        for text, after in zip(blocks, blocks[1:] + [""]):
            if not text.startswith("keydrift checkpoint v1\n"): continue
            said = dict(line.split(" ", 1) for line in text.splitlines()[1:])
            link, name = place(said), said["organization"]
            ours = said["database"] in [row["database_id"] for row in about]
            chain = next((one for one in chains.values() if one.origin == name), None) or Chain(name, name)
            if pack and link not in chain.links and not start["run_id"] < link[0] <= newest - bool(link[1]): continue
            agrees = chain.links.get(link, b"").hex() == said["digest"]
            if not ours or vkeys and not signed(text + "\n", after, vkeys): ignored += 1
            elif not agrees and not any(is_left(link, said, act) for act in chain.acts):
                known = chain.name in chains
                chains.setdefault(chain.name, chain).fail(
                    known and link[0], f"it is not what its checkpoint of {said['time']} says")
    except Exception as why:
        damage.append(say(why))
        for chain in chains.values(): chain.bad = 0, damage[-1]
    if ignored: print(f"{ignored} checkpoints do not count: they are of other databases, or have no good signature")
    unsigned = "signatures of checkpoints were not checked: no public key was given"
    if not vkeys: print(unsigned if blocks else "no checkpoints")
    for chain in chains.values() if chains or not damage else [Chain("database", "database")]:
        if damage and not chain.bad: chain.fail(0, damage[0])
        for act in chain.acts:
            print(f"{chain.name}: {act['kind']} at {act['acted_at']} by {act['actor']}: {act['detail']}")
        if chain.unchecked: print(f"{chain.name}: what was adopted cannot be checked, as something of it is pruned")
        run_id, what = chain.bad or (math.inf, None)
        good = [run for run in chain.runs if run[0] < run_id]
        until = f"good until run {good[-1][0]} ({good[-1][1]})" if good else "nothing before it is good"
        if chain.bad: print(f"{chain.name} broken: {f'run {run_id}: ' if run_id else ''}{what}; {until}")
        runs = f"runs {good[0][0]} to {good[-1][0]}, {chain.events} events" if good else "no runs"
        if not chain.bad: print(f"{chain.name} whole: {runs}")
    return 3 if damage or any(chain.bad for chain in chains.values()) else 0
if __name__ == "__main__": sys.exit(main())
