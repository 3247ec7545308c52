#!/usr/bin/env python3
"""Verifies a keydrift history by docs/audit-log.md, in nothing but Python 3.9. SOURCE is a database; with
verify_signatures.py beside this file there are packs and options as well. Exit: 0 whole, 3 broken, 2 not readable."""
import bisect, collections, hashlib, hmac, itertools, json, math, pathlib, re, runpy, sqlite3, struct, sys
EVENT = "event_id run_id observed_at previous_observed_at scope key_id key_name event field".split()
ATTRIBUTION = ("attribution_id run_id event_id log_id action acted_at actor_type actor_id actor_email actor_key_id "
               "actor_ip_address actor_scopes").split()
FITS = {"api_key.created": ("added", "restored"), "api_key.updated": ("changed",), "api_key.deleted": ("removed",)}
ACT = "act_id after_run_id kind acted_at actor detail".split()
RUN = ("run_id trigger started_at finished_at status keys_seen baseline added restored removed used changed "
       "unconfirmed skipped pages requests retries notice error missing deferred_until").split()
COLUMNS = {name.replace("owner_", "owner."): name for name in ("name redacted_value project_id project_name owner_type "
           "owner_id owner_name owner_role created_at last_used_at expires_at").split()}  # by where the API has them
KEPT = "scope own_key first_seen_at last_seen_at removed_at unconfirmed".split()  # of a key in a keyframe
PERSONAL = re.compile(r"owner_name( twice)?|owner\.(.*[._])?(name|email|ip_address)", re.DOTALL)
def open_database(path):  # gives what gives the rows of a view
    database = sqlite3.connect(path.resolve().as_uri() + "?mode=ro", uri=True)
    database.row_factory, _ = sqlite3.Row, database.execute("begin")  # one state of the file for all
    return lambda name, order="1": database.execute(name if " " in name else f"select * from {name} order by {order}")
def loads(text):
    def double(text): return float(json.dumps(float(text), allow_nan=False))  # also what has no place in 64 bits
    def whole(text): return int(text) if text != "-0" and -2**63 <= int(text) < 2**64 else double(text)
    return json.loads(text, parse_int=whole, parse_float=double, parse_constant=double)
class Seal(bytes): pass  # what stands in a digest for the name or an address of a person
def encode(value):  # canonical bytes
    def sized(tag, size, *content): return tag + struct.pack(">Q", size) + b"".join(content)
    if value is None or isinstance(value, bool): return b"n" if value is None else b"b" + bytes([value])
    if isinstance(value, bytes): return (b"s" if isinstance(value, Seal) else b"d") + value
    if isinstance(value, float): return b"f" + struct.pack(">d", value)
    if isinstance(value, dict): return sized(b"m", len(value), *(encode(k) + encode(value[k]) for k in sorted(value)))
    if not isinstance(value, (int, str)): return sized(b"l", len(value), *map(encode, value))
    return sized(b"i" if isinstance(value, int) else b"t", len(text := str(value).encode()), text)
def digest(*values): return hashlib.sha256(b"".join(map(encode, values))).digest()
def seal(field, value, salt, erased, always=False):
    if value is None or not (always or PERSONAL.fullmatch(field)): return value
    if value == "erased" and field in erased: return Seal.fromhex(erased[field])
    return Seal(hmac.digest(bytes.fromhex(salt), encode(value), "sha256")) if salt else value
def sealed(key, *by):  # a whole key
    return {n: {m: seal(m, w, *by) for m, w in v.items()} if n == "other" else seal(n, v, *by) for n, v in key.items()}
def event_item(event, secrets):
    def side(name, text):
        own, plain = secrets("event", event["event_id"], name), text is None or event["event"] in ("used", "changed")
        return seal(event["field"] or "", text, *own) if plain else sealed(loads(text), *own)
    return [*(event[column] for column in EVENT), side("old", event["old_value"]), side("new", event["new_value"])]
def notice_item(notice, secrets):
    number, *head, field, changes = (notice[name] for name in "notice_id run_id kind field changes".split())
    return [number, *head, field, [[k, seal(field, v, *secrets("notice", number, k))] for k, v, *_ in loads(changes)]]
def attribution_item(of, secrets):
    own = secrets("attribution", of["attribution_id"], "")
    return [seal(name, of[name], *own, name in ("actor_email", "actor_ip_address")) for name in ATTRIBUTION]
def whole(row): return {**row, "other": loads(row["other"])}
def fields(key):  # by name: what is in a column as it is, any other value as the one item of a list
    found = {name: key[name] for name in ("scope", *COLUMNS.values()) if key[name] is not None}
    for path, value in key["other"].items():
        found[COLUMNS.get(path, path) + " twice" * (COLUMNS.get(path, path) in found)] = [value]
    return found
def meaning(field, text):
    if text is None or field == "scope" or (column := field in COLUMNS.values()) and text[:5] != "json:": return text
    try: encode(value := loads(text[5:] if column else text))
    except ValueError: value = text
    return value if column and str(value).startswith("json:") and not field.endswith("_at") else [value]
def refuse(refused, why):
    if refused: raise ValueError(why)
class Chain:  # the history of one organization: its links, and the inventory that they lead to
    def __init__(self, name, origin):
        self.name = self.called = name; self.origin = self.named = origin; self.bad = self.head = None; self.events = 0
        self.runs, self.acts, self.links, self.adopting, self.forgotten, self.unchecked = [], [], {}, [], set(), False
        self.horizons, self.horizon, self.misplaced, self.unread = collections.Counter(), 0, 0, 0
        self.keyframe = self.resume([], None)
    def resume(self, rows, last_ok):  # "last_seen_at": None is the last ok run, "?" a time that is not known
        self.keys, self.seen, self.own, self.last_ok = {}, {}, None, last_ok
        for row in rows:
            at, late = row["last_seen_at"], row["removed_at"] or row["unconfirmed"] or not row["last_seen_at"]
            self.seen[row["key_id"]] = {**{n: row[n] for n in KEPT[2:5]}, "last_seen_at": (at or "?") if late else None}
            self.keys[row["key_id"]], self.own = fields(row), row["key_id"] if row["own_key"] == 1 else self.own
    def prune(self, detail):  # what the newest act says that says anything
        used, events = ((detail.get("horizons") or {}).get(name) or 0 for name in ("used", "events"))
        if (detail.get("keyframe") or {}).get("run") != max(used, events): return
        self.horizons = {**dict.fromkeys(("events", "notices", "attributions"), events), "used": used}
        self.horizon, self.keyframe = max(used, events), (detail["keyframe"]["digest"], [])
    def keep(self, keys, secrets):  # the keyframe that is there, and what enters its digest
        items = [[sealed({name: key[name] for name in ("key_id", *COLUMNS.values(), "other")},
                         *secrets("keyframe", self.horizon, key["key_id"])), *map(key.get, KEPT)] for key in keys]
        if keys: self.keyframe = (self.keyframe or [""])[0], keys, *items
    def fail(self, run_id, what): self.bad = self.bad if self.bad and self.bad[0] <= run_id else (run_id, what)
    def hold(self, run_id, step, *what):
        try: return None if self.bad and self.bad[0] <= run_id else step(*what)  # before the chain, all is in doubt:
        except Exception as why: self.fail(self.runs[0][0] if self.adopting and self.runs else run_id, str(why))
    def run(self, run, span, events, notices, attributions, found, kept, secrets):
        run_id, at, ok = run["run_id"], run["finished_at"], run["status"] == "ok"
        header = ["keydrift/run/1", self.origin, *(run[name] for name in RUN)]
        items = {"events": [], "used": [], "notices": [notice_item(notice, secrets) for notice in notices],
                 "attributions": [attribution_item(of, secrets) for of in attributions]}
        told = [event_item(event, secrets) for event in events]
        for item in told: items["used" if item[7] == "used" else "events"].append(item)
        here = {part: [part, len(of), digest("keydrift/part/1", part, *of)] for part, of in items.items() if of}
        gone, ids = {part for part in items if run_id <= self.horizons[part]}, [event["event_id"] for event in events]
        parts = {part: here.get(part) or kept[part] for part in items if part in here or part in gone & kept.keys()}
        said = {"used": run["used"], "events": len(span) - run["used"]}
        counted = all(parts.get(part, [part, 0])[1] == said[part] for part in said if run["digest"] or part not in gone)
        refuse(any((event["organization"], event["run_id"]) != (self.name, run_id) for event in events) or not counted
               or ids != sorted({number for number in ids if number in span}) or len(ids) < len(span) and not gone
               or gone & here.keys() or span and not ok, "an event or a notice of it was moved, dropped or inserted")
        refuse(self.adopting if run["digest"] else self.head or kept, "what was before the chain was not adopted by it")
        if run["digest"]:
            self.head = self.links[run_id, None] = digest([*header, self.head, [*parts.values()]])
            refuse(self.head.hex() != run["digest"] or parts != kept, "it or the link before it was edited or dropped")
        else: self.adopting += [*told, header, *items["notices"]]; self.unchecked |= bool(gone) and ok
        for a in attributions:  # of what was seen by then, or may be before all that is read
            event = found.get((self.name, a["event_id"]), {"event": None, "run_id": math.inf})
            fits = event["run_id"] <= run_id and event["event"] in FITS[a["action"]] or 0 < a["event_id"] <= self.unread
            refuse(not fits or not run["digest"], f"attribution {a['attribution_id']} is not of its event")
        for event in events if run_id > self.horizon else (): self.event(event, at)
        for notice in notices if run_id > self.horizon else (): self.notice(notice)
        if run_id == self.horizon:  # the replay begins here, with the keyframe
            said, rows, *items = self.keyframe; self.keyframe = self.resume(rows, at)
            refuse(digest("keydrift/keyframe/1", *items).hex() != said, "the keyframe was edited")
        self.runs.append((run_id, at)); self.events += len(events); self.last_ok = at if ok else self.last_ok
    def act(self, act, erased):
        number, detail = act["act_id"], loads(act["detail"])
        link = digest(["keydrift/act/1", self.origin, *(act[column] for column in ACT), self.head])
        refuse(link.hex() != act["digest"], f"act {number}, or the link before it, was edited, dropped or inserted")
        if act["kind"] == "adopted":
            if not self.unchecked and digest("keydrift/part/1", "adopted", *self.adopting).hex() != detail["digest"]:
                return self.fail(self.runs[0][0], "something before the chain was edited, dropped or inserted")
            self.adopting, late = [], detail["unconfirmed"]  # of keys that were gone by then it says nothing
            for key, seen in self.seen.items(): seen["last_seen_at"] = "?" if seen["removed_at"] else late.get(key)
        refuse(erased is not None and detail.get("places", 0) != erased[number], f"act {number} erased something else")
        if act["kind"] == "renamed": self.named = refuse(self.named != detail["from"], "not its name") or detail["to"]
        self.head = self.links[act["after_run_id"], number] = link; self.acts.append(act)
    def at(self, key_id, state):
        seen = self.seen.get(key_id); now = "gone" if seen and seen["removed_at"] else "there" if seen else "new"
        return refuse(state != now, f"key `{key_id}` was not {state} before") or seen
    def compare(self, what, key_id, expected, found, forgotten=True):
        for name in sorted({*expected, *found}):
            one, other = expected.get(name), found.get(name)  # what was erased, nobody can say any more
            erased = one in ("erased", ["erased"]) or forgotten and other in ("erased", ["erased"])
            refuse(encode(one) != encode(other) and (name, key_id) != ("last_used_at", self.own) and not (
                erased and PERSONAL.fullmatch(name)), f"{what} does not follow: `{name}` of key `{key_id}` is another")
    def event(self, event, at):
        what, kind, key_id, field = f"event {event['event_id']}", event["event"], event["key_id"], event["field"]
        seen = self.at(key_id, {"baseline": "new", "added": "new", "restored": "gone"}.get(kind, "there"))
        before = self.keys.get(key_id)
        if kind in ("used", "changed"):
            self.compare(what, key_id, {field: before.get(field)}, {field: meaning(field, event["old_value"])})
            before[field] = meaning(field, event["new_value"]); return
        self.keys[key_id] = now = fields({**event, **loads(event["old_value" if kind == "removed" else "new_value"])})
        if kind == "removed":
            self.compare(what, key_id, before, now); self.own = None if self.own == key_id else self.own
            seen.update(removed_at=at, last_seen_at=seen["last_seen_at"] or self.last_ok)
        else: self.seen[key_id] = {"first_seen_at": at, **(seen or {}), "last_seen_at": None, "removed_at": None}
    def notice(self, notice):
        for key_id, value, *_ in loads(notice["changes"]):
            seen, kind, field = self.at(key_id, "there"), notice["kind"], notice["field"]
            if kind == "own_key": self.own = key_id if value else None if self.own == key_id else self.own
            elif kind == "unconfirmed": seen["last_seen_at"] = self.last_ok if value else None
            else: self.keys[key_id][field] = meaning(field, value)
    def inventory(self, rows):
        for row in map(whole, rows):
            key_id, seen = row["key_id"], self.seen.get(row["key_id"], {"last_seen_at": "never"})
            late = int((at := seen["last_seen_at"]) not in (None, "?") and not seen.get("removed_at"))
            seen, row = {**seen, "unconfirmed": late}, {"unconfirmed": late, **row}
            last = row["last_seen_at"] if self.adopting or at == "?" else at or self.last_ok  # "?": before the chain
            expected = {**self.keys.get(key_id, {}), **seen, "last_seen_at": last, "own": key_id == self.own}
            found = {"own": row["own_key"] == 1, **{name: row[name] for name in seen}, **fields(row)}
            self.compare("the inventory", key_id, expected, found, row["owner_id"] in self.forgotten)
        lost = self.seen.keys() - {row["key_id"] for row in rows}
        refuse(lost or self.keyframe, f"the inventory does not follow: {lost} are lost, or a keyframe was inserted")
def read(rows, chains, pack, before, last):  # all histories from the first run to the last, and what they lead to
    acts, runs = {act["act_id"]: act for act in rows("act_history", "act_id")}, list(rows("run_history", "run_id"))
    parts, erased, salts, behind, kept, events, gone = map(collections.defaultdict, (dict, dict, str, *[list] * 3, set))
    said = collections.Counter(row["act_id"] for row in rows("erased_values"))
    def secrets(place, number, of): return salts[place, number, of.split("\0")[0]], erased[place, number, of]
    for row in rows("erased_values"):
        erased[row["place"], row["id"], (row["side"] or "") + (row["key_id"] or "")][row["field"]] = row["seal"]
        gone[row["place"], row["id"]].add(acts.get(row["act_id"], {"organization": None})["organization"])
    for r in rows("run_parts"): parts[r["run_id"]][r["part"]] = [r["part"], r["items"], bytes.fromhex(r["digest"])]
    salts.update({("event", r["event_id"], of): r[f"{of}_salt"] for r in rows("audit_salts") for of in ("old", "new")})
    salts.update({("attribution", row["attribution_id"], ""): row["salt"] for row in rows("attribution_salts")})
    for row in rows("notice_salts"): salts["notice", row["notice_id"], row["key_id"].split("\0")[0]] = row["salt"]
    for name in ("all_keys", "keyframe_keys", "notice_history", "attribution_history"):
        of, by, at = (name, "key_id", "organization") if "keys" in name else (name[:-8], f"{name[:-8]}_id", "run_id")
        for row in rows(name, by): kept[of, row[at]].append(row)
    for act in acts.values():  # in a pack, those behind runs before it are the first
        chain, after, detail = chains[act["organization"]], act["after_run_id"], loads(act["detail"])
        behind[chain.name, before if 0 <= after <= before else after].append(act)
        if act["kind"] == "pruned" and not pack: chain.prune(detail)  # of what is pruned, there are no packs
        if act["kind"] == "forgotten": chain.forgotten.add(detail.get("owner_id"))
    for row in rows("keyframe_salts"):  # an older SQLite ends a text at its first zero
        salts["keyframe", chains[row["organization"]].horizon, row["key_id"].split("\0")[0]] = row["salt"]
    for run in [run for run in runs if run["run_id"] < 1 and not pack]:
        chains[run["organization"]].fail(runs.pop(0)["run_id"], "it was inserted")
    missing = next((number for number, run in enumerate(runs, before + 1) if number != run["run_id"]), None)
    for chain in chains.values():
        if missing: chain.fail(missing, "it is missing")
        chain.keep([*map(whole, kept["keyframe_keys", chain.name])], secrets)
        for act in behind.pop((chain.name, before), []): chain.hold(0, chain.act, act, None if pack else said)
    ends = [*itertools.accumulate((max(0, sum(run[name] for name in RUN[6:12])) for run in runs), initial=last)]
    for row in rows("audit_history", "event_id"): events[bisect.bisect_left(ends, row["event_id"])].append(row)
    found = {(event["organization"], event["event_id"]): event for some in events.values() for event in some}
    for one in events[0] + events[len(ends)]: chains[one["organization"]].fail(one["run_id"], "an event was inserted")
    for number, run in enumerate(runs, 1):
        chain, run_id, span = chains[run["organization"]], run["run_id"], range(ends[number - 1] + 1, ends[number] + 1)
        mine = {"event": events.pop(number, []), **{of: kept.pop((of, run_id), []) for of in ("notice", "attribution")}}
        chain.unread = ends[number] if run_id == chain.horizons["events"] else chain.unread
        chain.hold(run_id, chain.run, run, span, *mine.values(), found, parts[run_id], secrets)
        for act in behind.pop((chain.name, run_id), []): chain.hold(run_id, chain.act, act, None if pack else said)
        items = [("keyframe", run_id), *((place, row[f"{place}_id"]) for place, of in mine.items() for row in of)]
        chain.misplaced |= any(gone.get(item, set()) - {chain.name, None} for item in items)
    for name, run_id in behind: chains[name].fail(run_id, "there is an act behind it, and it is not there")
    for one in [one for (of, _), rest in kept.items() if "keys" not in of for one in rest]:
        chains[one["organization"]].fail(max(one["run_id"], before + 1), "a notice or attribution of it was inserted")
    for chain in chains.values():
        if chain.misplaced and not pack: chain.bad = chain.bad or (0, "another organization's act erased values of it")
        if not chain.bad: chain.hold((chain.runs or [(0,)])[-1][0], chain.inventory, kept["all_keys", chain.name])
        if said.keys() - acts and not pack: chain.bad = chain.bad or (0, "values are erased by acts that are not there")
        if chain.named != chain.called: chain.bad = chain.bad or (math.inf, f"its history names it `{chain.named}`")
def main(arguments):
    source, beside = pathlib.Path(*arguments[:1]), pathlib.Path(__file__).resolve().with_name("verify_signatures.py")
    more, chains, damage = runpy.run_path(str(beside)) if beside.exists() else None, {}, []  # that one, by its path
    if not more and (source.is_dir() or len(arguments) != 1 or arguments[0].startswith("-")):
        return print(f"{__doc__}\nPacks, checkpoints and signatures need {beside}: NOT checked.", file=sys.stderr) or 2
    try:
        outside = more and more["Outside"](arguments, __doc__, loads)
        rows = outside.rows if outside and outside.is_files else open_database(outside.source if outside else source)
        list(rows("chains" if outside and outside.is_files and not outside.manifest else "pragma user_version"))
    except (OSError, sqlite3.Error, ValueError, TypeError, KeyError) as why:
        return print(f"{' '.join(arguments)} cannot be read: {why}", file=sys.stderr) or 2
    try:
        if pack := bool(outside and outside.manifest): outside.check_pack()
        chains = {row["organization"]: Chain(row["organization"], row["origin"]) for row in rows("chains")}
        damage = [row["integrity_check"] for row in rows("pragma integrity_check(1)") if row["integrity_check"] != "ok"]
        damage += [f"a row of {row['table']} refers to one that is lost" for row in rows("pragma foreign_key_check")]
        read(rows, chains, pack, *(outside.begin(chains) if pack else (0, 0)))
        if more: outside.hold(chains, Chain, rows)
    except Exception as why:
        damage.append(str(why))
        for chain in chains.values(): chain.bad = 0, damage[-1]
    for line in outside.remarks() if more else [f"checkpoints, signatures: NOT checked, without {beside}"]: print(line)
    for chain in chains.values() if chains or not damage else [Chain("database", "database")]:
        if damage and not chain.bad: chain.fail(0, damage[0])
        for act in chain.acts: print("{}: {kind} at {acted_at} by {actor}: {detail}".format(chain.name, **act))
        if chain.unchecked: print(f"{chain.name}: what was adopted cannot be checked, as something of it is pruned")
        run_id, what = chain.bad or (math.inf, ""); good = [run for run in chain.runs if run[0] < run_id]
        until = what + (f"; good until run {good[-1][0]} ({good[-1][1]})" if good else "; nothing before it is good")
        whole = f"whole: runs {good[0][0]} to {good[-1][0]}, {chain.events} events" if good else "whole: no runs"
        print(chain.name, f"broken: {f'run {run_id}: ' if 0 < run_id < math.inf else ''}{until}" if what else whole)
    return 3 if damage or any(chain.bad for chain in chains.values()) else 0
if __name__ == "__main__": sys.exit(main(sys.argv[1:]))
