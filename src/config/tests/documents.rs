//! The annotated file and the documentation agree with the code.

use super::*;

const ANNOTATED: &str = include_str!("../../../config/keydrift.toml");
const DOCUMENTED: &str = include_str!("../../../docs/configuration.md");

/// The annotated file with each `# key = value` and `# [section]` line uncommented, and with the
/// indented examples too if wanted.
fn uncommented(examples: bool) -> String {
    let setting = |text: &str| {
        let key = text.split(" = ").next().unwrap_or_default();
        let named = !key.is_empty() && key.bytes().all(|c| c.is_ascii_lowercase() || c == b'_');
        (named && text.contains(" = ")) || (text.starts_with('[') && text.ends_with(']'))
    };
    let lines = ANNOTATED.lines().map(|line| {
        let example = line.strip_prefix("#   ").filter(|_| examples);
        match example.or_else(|| line.strip_prefix("# ")) {
            Some(text) if setting(text) => text,
            _ => line,
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn values(setup: &Setup) -> Vec<(String, String)> {
    setup.load().unwrap().effective().into_iter().map(|row| (row.key, row.value)).collect()
}

#[test]
fn the_annotated_file_holds_the_defaults_commented_and_uncommented() {
    let defaults = values(&Setup::default());
    assert_eq!(values(&Setup::file(ANNOTATED)), defaults);
    let all = uncommented(false);
    let set = all.lines().filter(|line| !line.starts_with('#') && line.contains(" = ")).count();
    let with_default = SETTINGS.iter().filter(|setting| setting.default.is_some()).count();
    assert_eq!(set, with_default, "{all}");
    assert_eq!(values(&Setup::file(&all)), defaults);
}

#[test]
fn the_examples_of_the_annotated_file_are_valid() {
    // The one thing wrong is that the example's certificates are not on this machine.
    insta::assert_snapshot!(Setup::file(uncommented(true)).problems(), @"`api.tls_ca_file` (set by `DIR/keydrift.toml:81`): `/etc/keydrift/roots.pem` could not be read: No such file or directory (os error 2)");
}

#[test]
fn every_setting_is_documented_with_its_default_and_variable() {
    let annotated: Vec<&str> = ANNOTATED.lines().collect();
    for setting in SETTINGS.iter().filter(|setting| setting.has_variable()) {
        let section = setting.section.replace("organizations", "organizations.name");
        let variable = settings::variable(&format!("{section}.{}", setting.key));
        let row = format!("| `{}` | ", setting.key);
        let row =
            DOCUMENTED.lines().find(|line| line.starts_with(&row) && line.contains(&variable));
        let default = setting.default.map(|default| format!("| `{default}` |"));
        let row = row.unwrap_or_else(|| panic!("docs/configuration.md lacks {variable}"));
        assert!(
            row.contains(&format!("`{variable}`"))
                && row.contains(default.as_deref().unwrap_or("")),
            "{row}"
        );
        let at = annotated.iter().position(|line| *line == format!("# {variable}"));
        let below = annotated[at.unwrap_or_else(|| panic!("keydrift.toml lacks {variable}")) + 1];
        assert!(below.contains(&format!("{} = ", setting.key)), "{below}");
    }
}

#[test]
fn exceptions_are_documented_member_by_member() {
    let row = DOCUMENTED.lines().find(|line| line.starts_with("| `exceptions` | "));
    let row = row.expect("docs/configuration.md has the exceptions");
    for member in settings::EXCEPTION_MEMBERS {
        assert!(row.contains(&format!("`{member}`")), "{member}");
    }
    assert!(ANNOTATED.contains("#   [[findings.exceptions]]"));
}

#[test]
fn every_range_in_the_documents_is_the_one_that_is_checked() {
    for setting in &SETTINGS {
        let (low, high) = match &setting.expects {
            settings::Expects::Integer(range) => {
                (range.start().to_string(), range.end().to_string())
            }
            settings::Expects::Duration(range) => {
                let render = crate::when::render_duration;
                (render(*range.start()), render(*range.end()))
            }
            _ => continue,
        };
        let row =
            DOCUMENTED.lines().find(|line| line.starts_with(&format!("| `{}` |", setting.key)));
        let plain = row.unwrap().replace('`', "");
        assert!(plain.contains(&format!("{low} to {high}")), "{low} to {high}: {plain}");
        assert!(ANNOTATED.contains(&format!("{low} to {high}")), "{low} to {high}");
    }
}
