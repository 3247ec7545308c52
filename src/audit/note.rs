//! Signed notes (C2SP `signed-note`) with Ed25519 keys, in the formats of `golang.org/x/mod/sumdb/note`.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64, HEXLOWER};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use zeroize::Zeroizing;

/// The algorithm of a key, before its bytes.
const ED25519_TAG: u8 = 1;
const KEY_BYTES: usize = 32;
const ID_BYTES: usize = 4;
const SIGNATURE_BYTES: usize = 64;
const PRIVATE: &str = "PRIVATE+KEY+";
/// An em dash and a space, as the specification has it.
pub(super) const SIGNATURE_MARK: &str = "\u{2014} ";

/// Why a text is no key. It never holds a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error("it is no signing key of the form `PRIVATE+KEY+NAME+HASH+BASE64`")]
    NotPrivate,
    #[error("it is no public key of the form `NAME+HASH+BASE64`")]
    NotPublic,
    #[error("its name is empty, or has white space or a `+` in it")]
    Name,
    #[error("it is not an Ed25519 key")]
    Algorithm,
    #[error("its hash does not fit: a character is wrong or missing")]
    Hash,
}

/// A public key and its name.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyingKey {
    name: String,
    id: [u8; ID_BYTES],
    bytes: [u8; KEY_BYTES],
}

impl VerifyingKey {
    fn new(name: &str, bytes: [u8; KEY_BYTES]) -> Self {
        let mut hashed = format!("{name}\n").into_bytes();
        hashed.push(ED25519_TAG);
        hashed.extend_from_slice(&bytes);
        let hash = ring::digest::digest(&ring::digest::SHA256, &hashed);
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&hash.as_ref()[..ID_BYTES]);
        Self { name: name.to_owned(), id, bytes }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a signature says that it is by this key.
    pub(super) fn is_named_by(&self, signature: &Signature) -> bool {
        self.name == signature.name && self.id == signature.id
    }

    /// Whether it is.
    pub(super) fn verifies(&self, text: &str, signature: &Signature) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, &self.bytes);
        self.is_named_by(signature) && key.verify(text.as_bytes(), &signature.bytes).is_ok()
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = BASE64.encode(&tagged(&self.bytes));
        write!(f, "{}+{}+{bytes}", self.name, HEXLOWER.encode(&self.id))
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VerifyingKey {
    type Err = KeyFault;

    fn from_str(text: &str) -> Result<Self, KeyFault> {
        let (name, hash, bytes) = take_apart(text).ok_or(KeyFault::NotPublic)?;
        let key = Self::new(name, *untag(bytes)?);
        if HEXLOWER.encode(&key.id) == hash { Ok(key) } else { Err(KeyFault::Hash) }
    }
}

/// A private key and its name. Wiped when it goes, but for what the library copies to sign.
#[derive(Clone)]
pub struct SigningKey {
    seed: Zeroizing<[u8; KEY_BYTES]>,
    public: VerifyingKey,
}

impl SigningKey {
    /// The key with this seed, which must be random.
    pub fn new(name: &str, seed: Zeroizing<[u8; KEY_BYTES]>) -> Result<Self, KeyFault> {
        if !is_name(name) {
            return Err(KeyFault::Name);
        }
        let pair = pair(&seed)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| KeyFault::Algorithm)?;
        Ok(Self { seed, public: VerifyingKey::new(name, public) })
    }

    /// Reads what [`Self::expose`] gives.
    pub fn parse(text: &str) -> Result<Self, KeyFault> {
        let rest = text.strip_prefix(PRIVATE).ok_or(KeyFault::NotPrivate)?;
        let (name, hash, bytes) = take_apart(rest).ok_or(KeyFault::NotPrivate)?;
        let key = Self::new(name, untag(bytes)?)?;
        if HEXLOWER.encode(&key.public.id) == hash { Ok(key) } else { Err(KeyFault::Hash) }
    }

    /// The key itself: for its file alone.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        let tagged = Zeroizing::new(tagged(&self.seed));
        let bytes = Zeroizing::new(BASE64.encode(&*tagged));
        let (name, id) = (&self.public.name, HEXLOWER.encode(&self.public.id));
        Zeroizing::new(format!("{PRIVATE}{name}+{id}+{}", *bytes))
    }

    #[must_use]
    pub fn public(&self) -> &VerifyingKey {
        &self.public
    }

    pub(super) fn sign(&self, text: &str) -> Option<Signature> {
        let signature = pair(&self.seed).ok()?.sign(text.as_bytes());
        let VerifyingKey { name, id, .. } = self.public.clone();
        Some(Signature { name, id, bytes: signature.as_ref().to_vec() })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, ***)", self.public)
    }
}

fn pair(seed: &[u8; KEY_BYTES]) -> Result<Ed25519KeyPair, KeyFault> {
    Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyFault::Algorithm)
}

/// One signature line of a note, of whatever algorithm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    name: String,
    id: [u8; ID_BYTES],
    bytes: Vec<u8>,
}

impl Signature {
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `None` if the line is no signature, or only the beginning of one.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (name, encoded) = line.strip_prefix(SIGNATURE_MARK)?.split_once(' ')?;
        let decoded = BASE64.decode(encoded.as_bytes()).ok()?;
        let (id, bytes) = decoded.split_first_chunk()?;
        let is_whole = is_name(name) && bytes.len() >= SIGNATURE_BYTES;
        is_whole.then(|| Self { name: name.to_owned(), id: *id, bytes: bytes.to_vec() })
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.id[..], &self.bytes].concat();
        write!(f, "{SIGNATURE_MARK}{} {}", self.name, BASE64.encode(&bytes))
    }
}

/// Whether a key may have this name.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+')
}

/// Name, hash and the rest, which may have a `+` in it.
fn take_apart(text: &str) -> Option<(&str, &str, &str)> {
    let mut parts = text.splitn(3, '+');
    let (name, hash, bytes) = (parts.next()?, parts.next()?, parts.next()?);
    is_name(name).then_some((name, hash, bytes))
}

fn tagged(bytes: &[u8; KEY_BYTES]) -> [u8; KEY_BYTES + 1] {
    let mut tagged = [ED25519_TAG; KEY_BYTES + 1];
    tagged[1..].copy_from_slice(bytes);
    tagged
}

fn untag(encoded: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeyFault> {
    let decoded = BASE64.decode(encoded.as_bytes()).map(Zeroizing::new);
    let decoded = decoded.map_err(|_| KeyFault::Hash)?;
    match decoded.split_first() {
        Some((&ED25519_TAG, bytes)) => {
            bytes.try_into().map(Zeroizing::new).map_err(|_| KeyFault::Algorithm)
        }
        _ => Err(KeyFault::Algorithm),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// From the documentation of `golang.org/x/mod/sumdb/note`.
    const PRIVATE_KEY: &str =
        "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    const PUBLIC_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const TEXT: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n";
    const LINE: &str = "\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";

    #[test]
    fn a_note_of_another_program_is_understood_and_signed_alike() {
        let key = SigningKey::parse(PRIVATE_KEY).unwrap();
        assert_eq!(key.public().to_string(), PUBLIC_KEY);
        assert_eq!(*key.expose(), PRIVATE_KEY);
        let signature = key.sign(TEXT).unwrap();
        assert_eq!(signature.to_string(), LINE);
        assert_eq!(Signature::parse(LINE), Some(signature.clone()));
        let public: VerifyingKey = PUBLIC_KEY.parse().unwrap();
        assert!(public.verifies(TEXT, &signature));
        assert!(!public.verifies("another text\n", &signature));
    }

    /// RFC 8032, section 7.1, tests 1 to 3.
    #[test]
    fn signatures_are_those_of_rfc_8032() {
        for (seed, public, message, signature) in [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                "",
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            ),
            (
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
                "72",
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
            ),
        ] {
            let seed: [u8; 32] = HEXLOWER.decode(seed.as_bytes()).unwrap().try_into().unwrap();
            let key = SigningKey::new("rfc8032", Zeroizing::new(seed)).unwrap();
            assert_eq!(HEXLOWER.encode(&key.public().bytes), public);
            let message = String::from_utf8(HEXLOWER.decode(message.as_bytes()).unwrap()).unwrap();
            let signed = key.sign(&message).unwrap();
            assert_eq!(HEXLOWER.encode(&signed.bytes), signature);
            assert!(key.public().verifies(&message, &signed));
        }
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_repeated() {
        let private = |text: &str| SigningKey::parse(text).map(drop).unwrap_err();
        assert_eq!(private(""), KeyFault::NotPrivate);
        assert_eq!(private(PUBLIC_KEY), KeyFault::NotPrivate);
        assert_eq!(private(&PRIVATE_KEY.replace("c74f20a3", "c74f20a4")), KeyFault::Hash);
        assert_eq!(private(&PRIVATE_KEY.replace("+AYEK", "+AoEK")), KeyFault::Algorithm);
        assert_eq!(private(&PRIVATE_KEY[..PRIVATE_KEY.len() - 1]), KeyFault::Hash);
        assert_eq!(PRIVATE_KEY.parse::<VerifyingKey>().unwrap_err(), KeyFault::Hash);
        let seed = || Zeroizing::new([7; 32]);
        assert_eq!(SigningKey::new("a b", seed()).unwrap_err(), KeyFault::Name);
        assert_eq!(SigningKey::new("a+b", seed()).unwrap_err(), KeyFault::Name);
        let key = SigningKey::new("acme", seed()).unwrap();
        let secret = BASE64.encode(&[7; 31]);
        assert!(!format!("{key:?}").contains(&secret[..8]));
    }

    proptest! {
        #[test]
        fn every_key_is_read_as_it_was_written(seed in any::<[u8; 32]>(), name in "[!-*,-~]{1,20}", text in ".{0,40}") {
            let key = SigningKey::new(&name, Zeroizing::new(seed)).unwrap();
            let again = SigningKey::parse(&key.expose()).unwrap();
            let public: VerifyingKey = key.public().to_string().parse().unwrap();
            prop_assert_eq!(again.public(), &public);
            let signature = again.sign(&text).unwrap();
            prop_assert!(public.verifies(&text, &Signature::parse(&signature.to_string()).unwrap()));
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in any::<String>()) {
            SigningKey::parse(&text).ok();
            text.parse::<VerifyingKey>().ok();
            Signature::parse(&text);
        }
    }
}
