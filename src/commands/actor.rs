//! Who acts upon the history.

use std::fs;

/// The system user that this process runs as, by name. The environment could say anything.
pub(super) fn system_user() -> String {
    let uid = rustix::process::getuid().as_raw();
    let users = fs::read("/etc/passwd").unwrap_or_default();
    name_of(uid, &String::from_utf8_lossy(&users)).unwrap_or_else(|| format!("uid {uid}"))
}

fn name_of(uid: u32, users: &str) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let found: u32 = fields.nth(1)?.parse().ok()?;
        (found == uid).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_number() {
        let users =
            "root:x:0:0:root:/root:/bin/bash\n# none\n:x:7:7::/:\nkeydrift:x:998:998::/:/x\n";
        assert_eq!(name_of(998, users).as_deref(), Some("keydrift"));
        assert_eq!(name_of(0, users).as_deref(), Some("root"));
        assert_eq!(name_of(7, users), None);
        assert_eq!(name_of(1, ""), None);
    }
}
