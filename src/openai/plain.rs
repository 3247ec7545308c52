//! Reads a page of admin keys in one go, without a tree of values in between: most pages hold nothing that needs one.
//!
//! Whatever is out of the ordinary (a list or a fraction among the values, a member that comes twice, a text that looks
//! like a secret, anything that is not as the API documents it) makes the page [unfit](read_page), and it is read the
//! thorough way (`wire`, `fields`). Of a page that is fit, both ways tell the same.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::fields::{Interned, MAX_CACHED};
use super::mask::Mask;
use super::wire::Page;
use crate::clock::Timestamp;
use crate::inventory::{Column, Key, KeyId, Other, Scope, Shape, Sighting, field_at, join_path};

/// More different fields than this are no ordinary list.
const MAX_PATHS: usize = 500;
/// Nor are deeper objects.
const MAX_DEPTH: usize = 8;
/// Members that are always known: the key itself, and its id.
const KEY: usize = 0;
const ID: usize = 1;

/// A member of a key, or of an object in it.
#[derive(Debug, Default)]
struct Member {
    path: String,
    column: Option<Column>,
    /// By their names, in the order in which they first came.
    members: Vec<(String, usize)>,
    /// The key in which it came last.
    came_in: u64,
}

/// What is known of the keys before.
#[derive(Debug)]
pub(super) struct Known {
    members: Vec<Member>,
    /// Values without a column, by how they were sent.
    others: HashMap<Vec<u8>, Arc<Other>>,
    /// What the key before had, and the shape that it makes.
    newest: Option<(Sent, Arc<Shape>)>,
    keys: u64,
}

impl Default for Known {
    fn default() -> Self {
        let key = Member { members: vec![("id".to_owned(), ID)], ..Member::default() };
        let id = Member { path: "id".to_owned(), ..Member::default() };
        Self { members: vec![key, id], others: HashMap::new(), newest: None, keys: 0 }
    }
}

/// What was sent for a key, in the order in which it came.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sent {
    leaves: Vec<usize>,
    objects: Vec<usize>,
}

enum Leaf<'de> {
    Null,
    Bool(bool),
    Integer(i64),
    Text(Cow<'de, str>),
}

/// Reads a page, if it is fit for it.
pub(super) fn read_page(
    body: &[u8],
    mask: &Mask,
    interned: &mut Interned,
    known: &mut Known,
) -> Option<Page<Sighting>> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let page = OfPage(Reading { mask, interned, known }).deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    Some(page)
}

struct Reading<'a> {
    mask: &'a Mask,
    interned: &'a mut Interned,
    known: &'a mut Known,
}

fn unfit<E: Error>() -> E {
    E::custom("unfit")
}

struct OfPage<'a>(Reading<'a>);

impl<'de> DeserializeSeed<'de> for OfPage<'_> {
    type Value = Page<Sighting>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OfPage<'_> {
    type Value = Page<Sighting>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a page")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut items, mut has_more) = (None, None);
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            match name.as_ref() {
                "data" if items.is_none() => {
                    items = Some(map.next_value_seed(OfItems(&mut self.0))?);
                }
                "has_more" if has_more.is_none() => has_more = Some(map.next_value::<bool>()?),
                "data" | "has_more" => return Err(unfit()),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Page { items: items.ok_or_else(unfit)?, has_more })
    }
}

struct OfItems<'r, 'a>(&'r mut Reading<'a>);

impl<'de> DeserializeSeed<'de> for OfItems<'_, '_> {
    type Value = Vec<Sighting>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for OfItems<'_, '_> {
    type Value = Vec<Sighting>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of keys")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        loop {
            self.0.known.keys += 1;
            let (mut sent, mut leaves) = (Sent::default(), Vec::new());
            let members = OfMembers {
                reading: self.0,
                parent: KEY,
                depth: 0,
                sent: &mut sent,
                leaves: &mut leaves,
            };
            if seq.next_element_seed(members)?.is_none() {
                return Ok(items);
            }
            items.push(self.0.conclude(sent, &leaves).ok_or_else(unfit)?);
        }
    }
}

/// The members of one object.
struct OfMembers<'r, 'a, 'de> {
    reading: &'r mut Reading<'a>,
    parent: usize,
    depth: usize,
    sent: &'r mut Sent,
    leaves: &'r mut Vec<(usize, Leaf<'de>)>,
}

impl<'de> DeserializeSeed<'de> for OfMembers<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OfMembers<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { reading, parent, depth, sent, leaves } = self;
        let mut place = 0;
        while let Some(member) = map.next_key_seed(OfName { reading, parent, place })? {
            place += 1;
            map.next_value_seed(OfValue { reading, member, depth, sent, leaves })?;
        }
        // An empty object is a value.
        if place == 0 { Err(unfit()) } else { Ok(()) }
    }
}

/// The name of a member.
struct OfName<'r, 'a> {
    reading: &'r mut Reading<'a>,
    parent: usize,
    /// How many members came before.
    place: usize,
}

impl<'de> DeserializeSeed<'de> for OfName<'_, '_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for OfName<'_, '_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<usize, E> {
        self.reading.member(self.parent, self.place, name).ok_or_else(unfit)
    }
}

struct OfValue<'r, 'a, 'de> {
    reading: &'r mut Reading<'a>,
    member: usize,
    depth: usize,
    sent: &'r mut Sent,
    leaves: &'r mut Vec<(usize, Leaf<'de>)>,
}

impl<'de> OfValue<'_, '_, 'de> {
    fn leaf(self, leaf: Leaf<'de>) {
        self.leaves.push((self.member, leaf));
    }
}

impl<'de> DeserializeSeed<'de> for OfValue<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

// A fraction or a list is an error, as it has no method here.
impl<'de> Visitor<'de> for OfValue<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.leaf(Leaf::Null);
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.leaf(Leaf::Bool(value));
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.leaf(Leaf::Integer(value));
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.leaf(Leaf::Integer(i64::try_from(value).map_err(|_| unfit())?));
        Ok(())
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<(), E> {
        self.leaf(Leaf::Text(Cow::Borrowed(text)));
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.leaf(Leaf::Text(Cow::Owned(text.to_owned())));
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Self { reading, member, depth, sent, leaves } = self;
        if depth >= MAX_DEPTH {
            return Err(unfit());
        }
        sent.objects.push(member);
        OfMembers { reading, parent: member, depth: depth + 1, sent, leaves }.visit_map(map)
    }
}

impl Reading<'_> {
    /// The member of that name; `None` if it came already, or is none to be kept.
    fn member(&mut self, parent: usize, place: usize, name: &str) -> Option<usize> {
        let members = &self.known.members[parent].members;
        // Mostly they come in the same order.
        let found = match members.get(place) {
            Some((expected, member)) if expected == name => Some(*member),
            _ => members.iter().find(|(other, _)| other == name).map(|(_, member)| *member),
        };
        let member = match found {
            Some(member) => member,
            None => self.add_member(parent, name)?,
        };
        let came_in = &mut self.known.members[member].came_in;
        if *came_in == self.known.keys {
            return None;
        }
        *came_in = self.known.keys;
        Some(member)
    }

    fn add_member(&mut self, parent: usize, name: &str) -> Option<usize> {
        let member = self.known.members.len();
        // What holds the full secret is dropped, and counted.
        let is_secret = parent == KEY && name == "value" || self.mask.masked(name).is_some();
        if is_secret || member >= MAX_PATHS {
            return None;
        }
        let path = join_path(&self.known.members[parent].path, name);
        let column = Column::from_api_path(&path);
        self.known.members.push(Member { path, column, ..Member::default() });
        self.known.members[parent].members.push((name.to_owned(), member));
        Some(member)
    }

    /// The key that these members make.
    fn conclude(&mut self, mut sent: Sent, leaves: &[(usize, Leaf<'_>)]) -> Option<Sighting> {
        let (_, id) = leaves.iter().find(|(member, _)| *member == ID)?;
        let Leaf::Text(id) = id else { return None };
        if self.mask.masked(id).is_some() {
            return None;
        }
        let mut key = Key::new(KeyId::new(id)?, Scope::Admin);
        let mut others: Vec<(usize, &Leaf<'_>)> = Vec::new();
        for (member, leaf) in leaves.iter().filter(|(member, _)| *member != ID) {
            sent.leaves.push(*member);
            if let Leaf::Text(text) = leaf
                && self.mask.masked(text).is_some()
            {
                return None;
            }
            match (self.known.members[*member].column, leaf) {
                (_, Leaf::Null) => {}
                (Some(column), Leaf::Text(text)) if !column.is_time() => {
                    key.set_text(column, Some(self.interned.text(column, text)));
                }
                (Some(column), Leaf::Integer(seconds)) if column.is_time() => {
                    key.set_time(column, Some(Timestamp::from_unix(*seconds)?));
                }
                (Some(_), _) => return None,
                (None, leaf) => others.push((*member, leaf)),
            }
        }
        key.other = self.other(&others);
        Some(Sighting::new(key, self.shape(sent)))
    }

    /// Values without a column. Those of many keys are the same.
    fn other(&mut self, values: &[(usize, &Leaf<'_>)]) -> Arc<Other> {
        let mut sent = Vec::with_capacity(128);
        for (member, leaf) in values {
            sent.extend(member.to_le_bytes());
            match leaf {
                Leaf::Null => {}
                Leaf::Bool(value) => sent.extend([0, u8::from(*value)]),
                Leaf::Integer(value) => {
                    sent.push(1);
                    sent.extend(value.to_le_bytes());
                }
                Leaf::Text(text) => {
                    sent.push(2);
                    sent.extend(text.len().to_le_bytes());
                    sent.extend(text.as_bytes());
                }
            }
        }
        if let Some(other) = self.known.others.get(&sent) {
            return Arc::clone(other);
        }
        let mut other = Other::new();
        for (member, leaf) in values {
            let value = match leaf {
                Leaf::Null => Value::Null,
                Leaf::Bool(value) => Value::from(*value),
                Leaf::Integer(value) => Value::from(*value),
                Leaf::Text(text) => Value::from(text.as_ref()),
            };
            other.insert(self.known.members[*member].path.clone(), value);
        }
        let other = self.interned.other(other);
        if self.known.others.len() >= MAX_CACHED {
            self.known.others.clear();
        }
        self.known.others.insert(sent, Arc::clone(&other));
        other
    }

    /// Most keys have the members of the one before, in the same order.
    fn shape(&mut self, sent: Sent) -> Arc<Shape> {
        if let Some((newest, shape)) = &self.known.newest
            && *newest == sent
        {
            return Arc::clone(shape);
        }
        let members = &self.known.members;
        let path = |member: &usize| members[*member].path.as_str();
        let leaves = sent.leaves.iter().map(|leaf| field_at(path(leaf)).to_owned()).collect();
        let objects = sent.objects.iter().map(|object| path(object).to_owned()).collect();
        let shape = self.interned.shape(Shape { leaves, objects });
        self.known.newest = Some((sent, Arc::clone(&shape)));
        shape
    }
}

#[cfg(test)]
#[path = "plain_tests.rs"]
mod tests;
