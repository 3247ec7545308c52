#!/usr/bin/env python3
"""Verifies a keydrift history without keydrift: by docs/audit-log.md, with nothing but Python 3.9.
SOURCE is a database, or a directory with the rows of its views as NAME.ndjson. Exit: 0 whole, 3 broken, 2 not readable."""
import argparse, base64, collections, hashlib, hmac, json, math, pathlib, re, sqlite3, struct, sys
EVENT = "event_id run_id observed_at previous_observed_at scope key_id key_name event field".split()
ACT = "act_id after_run_id kind acted_at actor detail".split()
RUN = ("run_id trigger started_at finished_at status keys_seen baseline added restored removed used changed unconfirmed "
       "skipped pages requests retries notice error missing deferred_until").split()
COLUMNS = {name.replace("owner_", "owner."): name for name in (  # of a key, by where the API has their values
    "name redacted_value project_id project_name owner_type owner_id owner_name owner_role created_at last_used_at "
    "expires_at").split()}
def open_source(path):  # gives what gives the rows of a view as dicts, in the order of recording
    database = None if path.is_dir() else sqlite3.connect(path.resolve().as_uri() + "?mode=ro", uri=True)
    if database: database.execute("begin")  # one state of the file from the first to the last row
    def rows(name, order="1"):
        if not database: return [] if " " in name else map(loads, open(path / f"{name}.ndjson", encoding="utf-8"))
        found = database.execute(name if " " in name else f"select * from {name} order by {order}")
        return (dict(zip((column[0] for column in found.description), row)) for row in found)
    return rows
def loads(text):
    def number(digits):  # what has no place in 64 bits, and minus zero, counts as a double
        if re.fullmatch("-?[0-9]+", digits) and digits != "-0" and -2**63 <= int(digits) < 2**64: return int(digits)
        return float(json.dumps(float(digits), allow_nan=False))
    return json.loads(text, parse_int=number, parse_float=number, parse_constant=number)
class Seal(bytes): pass  # what stands in a digest for the name or an address of a person
def encode(value):  # canonical bytes
    def sized(tag, size, content): return tag + struct.pack(">Q", size) + content
    if value is None: return b"n"
    if isinstance(value, bytes): return (b"s" if isinstance(value, Seal) else b"d") + value
    if isinstance(value, bool): return b"b" + bytes([value])
    if isinstance(value, float): return b"f" + struct.pack(">d", value)
    if isinstance(value, int): return sized(b"i", len(str(value)), str(value).encode())
    if isinstance(value, str): return sized(b"t", len(value.encode()), value.encode())
    if isinstance(value, dict): return sized(b"m", len(value), b"".join(encode(k) + encode(value[k]) for k in sorted(value)))
    return sized(b"l", len(value), b"".join(map(encode, value)))
def digest(*values): return hashlib.sha256(b"".join(map(encode, values))).digest()
def seal(field, value, salt, erased):
    personal = re.fullmatch(r"owner_name|owner\.(.*[._])?(name|email|ip_address)", field, re.DOTALL)
    if value is None or not personal: return value
    if value == "erased" and field in erased: return Seal.fromhex(erased[field])
    return Seal(hmac.digest(bytes.fromhex(salt), encode(value), "sha256")) if salt else value
def event_item(event, salts, erased):
    def side(name):
        text, salt = event[f"{name}_value"], salts.get(event["event_id"], {}).get(f"{name}_salt")
        gone = erased["event", event["event_id"], name]
        def sealed(key): return {f: sealed(v) if f == "other" else seal(f, v, salt, gone) for f, v in key.items()}
        whole = text is not None and event["event"] not in ("used", "changed")
        return sealed(loads(text)) if whole else seal(event["field"] or "", text, salt, gone)
    return [*(event[column] for column in EVENT), side("old"), side("new")]
def notice_item(notice, salts, erased):
    number, field = notice["notice_id"], notice["field"]
    changes = [[key, seal(field, value, salts.get((number, key.split("\0")[0])), erased["notice", number, key])]
               for key, value, *_ in loads(notice["changes"])]
    return [number, notice["run_id"], notice["kind"], field, changes]
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
class Chain:  # the history of one organization: its links, and the inventory that they lead to
    def __init__(self, name, origin):
        self.name, self.origin, self.runs, self.events, self.acts = name, origin, [], 0, []
        self.bad = None if name == origin else (0, f"its chain began under another name, `{origin}`")
        self.head, self.links, self.adopting, self.horizons = None, {}, [], collections.defaultdict(int)
        self.keys, self.seen, self.own, self.last_ok = {}, {}, None, None
    def fail(self, run_id, what):
        self.bad = self.bad if self.bad and self.bad[0] <= run_id else (run_id, what)
    def hold(self, run_id, step, *what):
        try: return None if self.bad and self.bad[0] <= run_id else step(*what)
        except Exception as why:  # before anything is adopted, it is all up to there that nothing vouches for
            self.fail(self.runs[0][0] if self.adopting and self.runs else run_id, f"{why}" if type(why) is ValueError else repr(why))
    def run(self, run, span, events, notices, kept, *secrets):
        run_id, header = run["run_id"], ["keydrift/run/1", self.origin, *(run[column] for column in RUN)]
        told = [(event["event"] == "used", event_item(event, *secrets)) for event in events]
        items = {"events": [item for used, item in told if not used], "used": [item for used, item in told if used],
                 "notices": [notice_item(notice, *secrets) for notice in notices]}
        pruned = {part for part in items if not items[part] and run_id <= self.horizons[part.replace("notices", "events")]}
        parts = {part: [part, len(found), digest("keydrift/part/1", part, *found)] if found else kept[part]
                 for part, found in items.items() if found or part in pruned and part in kept}
        ids = [event["event_id"] for event in events if (event["organization"], event["run_id"]) == (self.name, run_id)]
        if len(ids) < len(events) or ids != [number for number in span if number in ids or not pruned] or (
                "used" not in pruned and len(items["used"]) != run["used"]) or run["status"] != "ok" and span:
            raise ValueError("an event of it was moved, dropped or inserted")
        if run["digest"] is None:  # from before the chain
            if self.head or kept: raise ValueError("it has no digest")
            self.adopting += [item for _, item in told] + [header] + items["notices"]
        else:
            if self.adopting: raise ValueError("what was before the chain was not adopted by it")
            if digest([*header, self.head, list(parts.values())]).hex() != run["digest"] or parts != kept:
                raise ValueError("it, an event, a notice or the link before it was edited, dropped or inserted")
            self.head = self.links[run_id, 0] = bytes.fromhex(run["digest"])
        for event in events: self.event(event, run["finished_at"])
        for notice in notices: self.notice(notice["kind"], notice["field"], loads(notice["changes"]))
        self.runs.append((run["run_id"], run["finished_at"]))
        self.events, self.last_ok = self.events + len(span), run["finished_at"] if run["status"] == "ok" else self.last_ok
    def act(self, act):
        link = digest(["keydrift/act/1", self.origin, *(act[column] for column in ACT), self.head])
        if link.hex() != act["digest"]:
            raise ValueError(f"act {act['act_id']} behind it, or the link before that, was edited, dropped or inserted")
        detail = loads(act["detail"])
        if act["kind"] == "adopted":
            if digest("keydrift/part/1", "adopted", *self.adopting).hex() != detail["digest"]:
                return self.fail(self.runs[0][0], "something before the chain was edited, dropped or inserted")
            self.adopting = []  # when a key was last seen that was gone by then, it does not say
            for key, seen in self.seen.items():
                seen["last_seen_at"] = "?" if seen["removed_at"] else detail["unconfirmed"].get(key)
        self.head = self.links[act["after_run_id"], act["act_id"]] = link
        self.acts.append(act)
    def at(self, key_id, state):
        seen = self.seen.get(key_id)
        if state == ("gone" if seen and seen["removed_at"] else "there" if seen else "new"): return seen
        raise ValueError(f"key `{key_id}` was not {state} before")
    def compare(self, what, key_id, expected, found):
        for name in sorted({*expected, *found}):
            if encode(expected.get(name)) != encode(found.get(name)) and (name, key_id) != ("last_used_at", self.own):
                raise ValueError(f"{what} does not follow from the history: `{name}` of key `{key_id}` is another")
    def event(self, event, finished_at):
        what, kind, key_id, field = f"event {event['event_id']}", event["event"], event["key_id"], event["field"]
        seen = self.at(key_id, {"baseline": "new", "added": "new", "restored": "gone"}.get(kind, "there"))
        if kind in ("used", "changed"):
            self.compare(what, key_id, {field: self.keys[key_id].get(field)}, {field: meaning(field, event["old_value"])})
            self.keys[key_id][field] = meaning(field, event["new_value"])
        elif kind == "removed":
            before, self.keys[key_id] = self.keys[key_id], fields({**event, **loads(event["old_value"])})
            self.compare(what, key_id, before, self.keys[key_id])
            self.own = None if self.own == key_id else self.own
            seen.update(removed_at=finished_at, last_seen_at=seen["last_seen_at"] or self.last_ok)
        else:
            self.keys[key_id] = fields({**event, **loads(event["new_value"])})
            self.seen[key_id] = {"first_seen_at": finished_at, **(seen or {}), "last_seen_at": None, "removed_at": None}
    def notice(self, kind, field, changes):
        for key_id, value, *_ in changes:
            seen = self.at(key_id, "there")
            if kind == "own_key": self.own = key_id if value else None if self.own == key_id else self.own
            elif kind == "unconfirmed": seen["last_seen_at"] = self.last_ok if value else None  # None: the last ok run
            else: self.keys[key_id][field] = meaning(field, value)
    def inventory(self, rows):
        for row in rows:
            key_id, seen = row["key_id"], self.seen.get(row["key_id"], {"last_seen_at": "never"})
            unknown = self.adopting or seen["last_seen_at"] == "?"  # from before the chain, which tells it
            last = row["last_seen_at"] if unknown else seen["last_seen_at"] or self.last_ok
            expected = {**self.keys.get(key_id, {}), **seen, "last_seen_at": last, "own": key_id == self.own}
            found = {"own": row["own_key"] == 1, **{name: row[name] for name in seen}, **fields({**row, "other": loads(row["other"])})}
            self.compare("the inventory", key_id, expected, found)
        for key_id in self.seen.keys() - {row["key_id"] for row in rows}:
            raise ValueError(f"the inventory does not follow from the history: key `{key_id}` is not in it")
def read(rows, chains):  # all histories from the first run to the last, and what they lead to
    parts, notices, inventory, acts, erased = (collections.defaultdict(kind) for kind in (dict, list, list, list, dict))
    for row in rows("erased_values"): erased[row["place"], row["id"], row["side"] or row["key_id"]][row["field"]] = row["seal"]
    for row in rows("run_parts"):
        parts[row["run_id"]][row["part"]] = [row["part"], row["items"], bytes.fromhex(row["digest"])]
    salts = {row["event_id"]: row for row in rows("audit_salts")}
    for row in rows("notice_salts"): salts[row["notice_id"], row["key_id"].split("\0")[0]] = row["salt"]  # older SQLite ends there
    for row in rows("notice_history", "notice_id"): notices[row["run_id"]].append(row)
    for row in rows("all_keys"): inventory[row["organization"]].append(row)
    for row in rows("act_history", "after_run_id, act_id"):
        acts[row["organization"], row["after_run_id"]].append(row)
        if row["kind"] == "pruned": chains[row["organization"]].horizons.update(loads(row["detail"])["horizons"])
    runs, last, events = list(rows("run_history", "run_id")), 0, rows("audit_history", "event_id")
    for run in [run for run in runs if run["run_id"] < 1]: chains[run["organization"]].fail(run["run_id"], "it was inserted")
    runs = [run for run in runs if run["run_id"] > 0]
    for missing in [number for number, run in enumerate(runs, 1) if number != run["run_id"]][:1]:
        for chain in chains.values(): chain.fail(missing, "it is missing")
    for chain in chains.values(): [chain.hold(0, chain.act, act) for act in acts.pop((chain.name, 0), [])]
    event = next(events, None)
    for run in [{"events": 0}, *runs, {"events": math.inf}]:  # events before and after those of all runs were inserted
        first, last, mine = last + 1, last + run["events"] if "events" in run else last + sum(run[n] for n in RUN[6:12]), []
        while event and event["event_id"] <= last: event = mine.append(event) or next(events, None)
        for one in mine if "events" in run else (): chains[one["organization"]].fail(one["run_id"], "an event of it was inserted")
        if "events" in run: continue
        chain, run_id = chains[run["organization"]], run["run_id"]
        chain.hold(run_id, chain.run, run, range(first, last + 1), mine, notices[run_id], parts[run_id], salts, erased)
        for act in acts.pop((chain.name, run_id), []): chain.hold(run_id, chain.act, act)
    for name, run_id in acts: chains[name].fail(run_id, "there is an act behind it, and it is not there")
    for chain in chains.values():
        if not chain.bad: chain.hold((chain.runs or [(0,)])[-1][0], chain.inventory, inventory[chain.name])
P, ORDER = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493  # Ed25519, by RFC 8032
D = -121665 * pow(121666, -1, P) % P
def add(p, q):
    t = D * p[0] * q[0] * p[1] * q[1]
    return (p[0] * q[1] + p[1] * q[0]) * pow(1 + t, -1, P) % P, (p[1] * q[1] + p[0] * q[0]) * pow(1 - t, -1, P) % P
def point(data):
    y = int.from_bytes(data, "little") % 2**255
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    root = pow(square, (P + 3) // 8, P)
    x = [x for x in (root, root * pow(2, (P - 1) // 4, P) % P) if x * x % P == square][0]
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
    raise ValueError(f"a signature of a checkpoint names the key {name} and is not its own")
def place(said): return int(said["run"]), int(said.get("act") or 0)
def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path, metavar="SOURCE")
    for option, metavar in (("--checkpoints", "FILE"), ("--public-key", "VKEY")):
        parser.add_argument(option, action="append", default=[], metavar=metavar)
    asked = parser.parse_args(arguments)
    try:
        rows = open_source(asked.source)
        about, damage, ignored = list(rows("chains")), [], []
        blocks = [block for path in asked.checkpoints for block in open(path, encoding="utf-8").read().split("\n\n")]
    except (OSError, sqlite3.Error, ValueError) as why:
        return print(f"{asked.source} cannot be read: {why}", file=sys.stderr) or 2
    chains = {row["organization"]: Chain(row["organization"], row["origin"]) for row in about}
    try:
        damage = [row["integrity_check"] for row in rows("pragma integrity_check(1)") if row["integrity_check"] != "ok"]
        damage += [f"a row of {row['table']} refers to one that is lost" for row in rows("pragma foreign_key_check")]
        read(rows, chains)
        for text, after in zip(blocks, blocks[1:] + [""]):
            if not text.startswith("keydrift checkpoint v1\n"): continue
            said = dict(line.split(" ", 1) for line in text.splitlines()[1:])
            ours = said["database"] in [row["database_id"] for row in about] and (not asked.public_key or any(
                is_signed(text + "\n", line, vkey) for line in after.splitlines() for vkey in asked.public_key))
            ignored += [] if ours else [said]
            link, name = place(said), said["organization"]
            chain = next((one for one in chains.values() if one.origin == name), None) or Chain(name, name)
            left = any(said["time"] <= act["acted_at"] and place(loads(act["detail"]).get("since") or {"run": act["after_run_id"]})
                       < link <= place(loads(act["detail"])["checkpoint"]) for act in chain.acts if act["kind"] == "accepted")
            if ours and not left and chain.links.get(link, b"").hex() != said["digest"]:
                chains.setdefault(chain.name, chain).fail(link[0], f"it is not what its checkpoint of {said['time']} says")
    except Exception as why: damage.append(f"it is not readable: {why!r}")
    if ignored: print(f"{len(ignored)} checkpoints do not count: they are of other databases, or have no good signature")
    if not asked.public_key: print("signatures of checkpoints were not checked: no public key was given" if blocks else "no checkpoints")
    for chain in chains.values() if chains or not damage else [Chain("database", "database")]:
        if damage and not chain.bad: chain.fail(0, damage[0])
        for act in chain.acts: print(f"{chain.name}: {act['kind']} at {act['acted_at']} by {act['actor']}: {act['detail']}")
        run_id, what = chain.bad or (math.inf, None)
        good = [run for run in chain.runs if run[0] < run_id]
        until = f"good until run {good[-1][0]} ({good[-1][1]})" if good else "nothing before it is good"
        if chain.bad: print(f"{chain.name} broken: {f'run {run_id}: ' if run_id else ''}{what}; {until}")
        else: print(f"{chain.name} whole:", f"runs {good[0][0]} to {good[-1][0]}, {chain.events} events" if good else "no runs")
    return 3 if damage or any(chain.bad for chain in chains.values()) else 0
if __name__ == "__main__": sys.exit(main())
