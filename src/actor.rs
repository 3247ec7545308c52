//! Who acts: the system user that the process runs as.

/// The name of the system user, or its number where it has none.
#[must_use]
pub fn system_user() -> String {
    let uid = rustix::process::geteuid().as_raw();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_of(uid, &users).unwrap_or_else(|| format!("uid {uid}"))
}

/// The name that the lines of `/etc/passwd` give a number.
fn name_of(uid: u32, users: &str) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let number: u32 = fields.nth(1)?.parse().ok()?;
        (number == uid).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_the_name_that_the_system_gives_it() {
        let users = "root:x:0:0:root:/root:/bin/bash\nbroken\nkeydrift:x:998:998::/:/bin/false\n";
        assert_eq!(name_of(998, users).as_deref(), Some("keydrift"));
        assert_eq!(name_of(7, users), None);
        assert!(!system_user().is_empty());
    }
}
