//! The section `[findings]`: lists of rules, and exceptions.

use super::*;
use crate::findings::{Exception, Rule};

fn one(text: &str) -> String {
    Setup::file(format!("[findings]\n{text}")).problems()
}

#[test]
fn the_defaults_are_those_of_the_rules_themselves() {
    assert_eq!(Setup::default().load().unwrap().findings, Rules::default());
}

#[test]
fn thresholds_and_rules_that_are_off_come_from_the_file_and_the_environment() {
    let text = "[findings]\nunused = \"30d\"\nproject_key_age = \"1y\"\nmax_admin_keys = 3\n\
                disabled = [\"no_name\", \"old\"]";
    let rules = Setup::file(text).load().unwrap().findings;
    assert_eq!(rules.unused, Duration::from_hours(30 * 24));
    assert_eq!(rules.project_key_age, Some(Duration::from_hours(365 * 24)));
    assert_eq!(rules.max_admin_keys, 3);
    assert_eq!(rules.disabled, [Rule::NoName, Rule::Old].into());
    let setup = Setup::file(text).with("KEYDRIFT__FINDINGS__DISABLED", "woke_up, expired");
    let rules = setup.load().unwrap().findings;
    assert_eq!(rules.disabled, [Rule::WokeUp, Rule::Expired].into());
    assert_eq!(
        setup.effective("findings.disabled"),
        "expired, woke_up (KEYDRIFT__FINDINGS__DISABLED)"
    );
    assert_eq!(Setup::file("[findings]\ndisabled = []").load().unwrap().findings, Rules::default());
}

#[test]
fn an_exception_is_read_member_by_member() {
    let setup = Setup::file(
        "[[findings.exceptions]]\nkey = \"key_Abc\"\nrule = \"old\"\norganization = \"acme\"\n\
         reason = \"ticket 1234\"\nuntil = \"2027-01-01\"\n\n\
         [[findings.exceptions]]\nkey = \"key_2\"\nreason = \"why\"\nuntil = 2027-01-02T03:04:05Z\n\
         [organizations.acme]\n",
    );
    let exceptions = setup.load().unwrap().findings.exceptions;
    let origins: Vec<&str> =
        exceptions.iter().map(|it| it.origin.rsplit(':').next().unwrap()).collect();
    assert_eq!(origins, ["1", "8"]);
    let without_origin = |it: &Exception| Exception { origin: String::new(), ..it.clone() };
    assert_eq!(
        exceptions.iter().map(without_origin).collect::<Vec<_>>(),
        [
            Exception {
                key_id: "key_Abc".to_owned(),
                rule: Some(Rule::Old),
                organization: Some("acme".to_owned()),
                reason: "ticket 1234".to_owned(),
                until: "2027-01-01T00:00:00Z".parse().unwrap(),
                origin: String::new(),
            },
            Exception {
                key_id: "key_2".to_owned(),
                rule: None,
                organization: None,
                reason: "why".to_owned(),
                until: "2027-01-02T03:04:05Z".parse().unwrap(),
                origin: String::new(),
            },
        ]
    );
    let shown = setup.load().unwrap().effective();
    let shown = shown.iter().filter(|row| row.key == "findings.exceptions");
    let shown: Vec<&str> = shown.map(|row| row.value.as_str()).collect();
    insta::assert_snapshot!(shown.join("\n"), @"
    acme/key_Abc: old until 2027-01-01T00:00:00Z: ticket 1234
    key_2: all rules until 2027-01-02T03:04:05Z: why
    ");
}

#[test]
fn what_is_wrong_with_a_list_or_an_exception_is_told_with_its_line() {
    insta::assert_snapshot!(one("disabled = \"never_expire\""), @"`findings.disabled` must be a rule; did you mean `never_expires`? (set by `DIR/keydrift.toml:2`)");
    insta::assert_snapshot!(one("disabled = [\"xyzzy\"]"), @"`findings.disabled` must be a rule: never_used, unused, old, expires_soon, expired, never_expires, no_name, owner_missing, owner_without_access, admin_service_account, used_after_archive, woke_up, use_went_back, same_name_and_owner, too_many_admin_keys (set by `DIR/keydrift.toml:2`)");
    insta::assert_snapshot!(one("disabled = [7]"), @r#"`findings.disabled` must be a list of rules, such as ["never_expires"] (set by `DIR/keydrift.toml:2`)"#);
    insta::assert_snapshot!(one("disabled = 2027-01-01"), @r#"`findings.disabled` must be a list of rules, such as ["never_expires"] (set by `DIR/keydrift.toml:2`)"#);
    insta::assert_snapshot!(one("unused = [\"90d\"]"), @r#"`findings.unused` must be a duration from 1h to 100y, such as "30s" or "15m" (set by `DIR/keydrift.toml:2`)"#);
    insta::assert_snapshot!(one("exceptions = \"key_abc\""), @"`findings.exceptions` must be tables, each below a line `[[findings.exceptions]]` (set by `DIR/keydrift.toml:2`)");
    insta::assert_snapshot!(one("exceptions = [7]"), @"`findings.exceptions` must be tables, each below a line `[[findings.exceptions]]` (set by `DIR/keydrift.toml:2`)");
    insta::assert_snapshot!(one("[findings.exceptions]\nkey = \"key_abc\""), @"`findings.exceptions` must be tables, each below a line `[[findings.exceptions]]` (set by `DIR/keydrift.toml:2`)");
    insta::assert_snapshot!(one("[[findings.exceptions]]\nkey = \"key_abc\""), @"
    the configuration has 2 problems:
      - `findings.exceptions` must have `reason` (set by `DIR/keydrift.toml:2`)
      - `findings.exceptions` must have `until` (set by `DIR/keydrift.toml:2`)
    ");
    insta::assert_snapshot!(one("[[findings.exceptions]]\nkye = \"key_abc\"\nreason = \"x\"\nuntil = \"2027-01-01\""), @"
    the configuration has 2 problems:
      - unknown setting `findings.exceptions.kye` (in `DIR/keydrift.toml:3`); did you mean `key`?
      - `findings.exceptions` must have `key` (set by `DIR/keydrift.toml:2`)
    ");
    insta::assert_snapshot!(one("[[findings.exceptions]]\nxyzzy = 1\nkey = \"a\"\nreason = \"x\"\nuntil = \"2027-01-01\""), @"
    unknown setting `findings.exceptions.xyzzy` (in `DIR/keydrift.toml:3`)
    hint: an exception has `key`, `rule`, `organization`, `reason`, `until`
    ");
    insta::assert_snapshot!(
        one("[[findings.exceptions]]\nkey = \"sk-admin-SECRET\"\nrule = \"olde\"\norganization = \"acme\"\nreason = \" \"\nuntil = \"90d\""),
        @r#"
    the configuration has 5 problems:
      - `findings.exceptions.key` must be the id of a key (set by `DIR/keydrift.toml:3`)
      - `findings.exceptions.rule` must be a rule; did you mean `old`? (set by `DIR/keydrift.toml:4`)
      - `findings.exceptions.organization` must be the name of an organization that is configured (set by `DIR/keydrift.toml:5`)
      - `findings.exceptions.reason` must be a line of 1 to 500 characters, without a secret (set by `DIR/keydrift.toml:6`)
      - `findings.exceptions.until` must be a date, such as "2027-01-01" (from 00:00 UTC) (set by `DIR/keydrift.toml:7`)
    "#
    );
    insta::assert_snapshot!(one("[[findings.exceptions]]\nkey = 7\nreason = \"x\"\nuntil = 2027"), @"
    the configuration has 2 problems:
      - `findings.exceptions.key` must be text, in quotes (set by `DIR/keydrift.toml:3`)
      - `findings.exceptions.until` must be text, in quotes (set by `DIR/keydrift.toml:5`)
    ");
    let variable = Setup::default().with("KEYDRIFT__FINDINGS__EXCEPTIONS", "key_abc").problems();
    insta::assert_snapshot!(variable, @"`findings.exceptions` must be set in the configuration file: no variable can hold it (set by `KEYDRIFT__FINDINGS__EXCEPTIONS`)");
}
