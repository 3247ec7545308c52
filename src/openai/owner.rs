//! The owner of a project's key. The listing of projects' keys has it a level deeper than that of admin
//! keys: `owner.user.name` rather than `owner.name`.

use serde_json::{Map, Value};

/// The members of `owner` that hold an owner, which `owner.type` names.
const KINDS: [&str; 2] = ["user", "service_account"];

/// Moves what stands in `owner.user` or `owner.service_account` up into `owner`, so that both listings
/// tell of an owner in the same places.
///
/// A member for which there is one in `owner` already stays where it is. Nothing is lost, except a null in
/// the place of the other kind of owner, which says nothing.
pub(super) fn lift_owner(members: &mut Map<String, Value>) {
    let Some(Value::Object(owner)) = members.get_mut("owner") else { return };
    let Some(kind) = kind_of(owner) else { return };
    let Some(Value::Object(nested)) = owner.remove(kind) else { return };
    let mut left = Map::new();
    for (name, value) in nested {
        if KINDS.contains(&name.as_str()) || owner.contains_key(&name) {
            left.insert(name, value);
        } else {
            owner.insert(name, value);
        }
    }
    if !left.is_empty() {
        owner.insert(kind.to_owned(), Value::Object(left));
    }
    owner.retain(|name, value| !(value.is_null() && KINDS.contains(&name.as_str())));
}

/// The kind of owner to move up: the one that `type` names, or the only one there.
fn kind_of(owner: &Map<String, Value>) -> Option<&'static str> {
    let there =
        |kind: &&str| matches!(owner.get(*kind), Some(Value::Object(nested)) if !nested.is_empty());
    let named = owner.get("type").and_then(Value::as_str);
    let mut kinds = KINDS.into_iter().filter(|kind| there(kind));
    match (kinds.next(), kinds.next()) {
        (Some(_), Some(_)) => KINDS.into_iter().find(|kind| named == Some(*kind)),
        (only, _) => only,
    }
}

#[cfg(test)]
#[path = "owner_tests.rs"]
mod tests;
