//! A gzipped tar archive whose bytes depend on its content alone.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};

use data_encoding::HEXLOWER;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use ring::digest::{SHA256, digest};

/// The folder in it.
const FOLDER: &str = "keydrift-evidence";
/// What an archive may unpack to.
const MOST_BYTES: u64 = 4 << 30;

/// What may be behind the last file of it: zeros, to fill up a block of tapes.
const MOST_PADDING: u64 = 64 << 10;

/// A file in an archive.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Entry {
    pub name: String,
    pub bytes: u64,
    /// In hexadecimal.
    pub sha256: String,
}

impl Entry {
    fn of(name: &str, content: &[u8]) -> Self {
        Self { name: name.to_owned(), bytes: content.len() as u64, sha256: sha256(content) }
    }
}

/// In hexadecimal.
#[must_use]
pub fn sha256(content: &[u8]) -> String {
    HEXLOWER.encode(digest(&SHA256, content).as_ref())
}

/// Writes files one after the other.
pub struct Builder<W: Write> {
    tar: tar::Builder<GzEncoder<W>>,
    /// Unix seconds, of every file.
    time: u64,
    entries: Vec<Entry>,
}

impl<W: Write> Builder<W> {
    pub fn new(writer: W, time: u64) -> Self {
        // Without a time and a name of its own.
        let gzip = GzBuilder::new().mtime(0).write(writer, Compression::new(6));
        Self { tar: tar::Builder::new(gzip), time, entries: Vec::new() }
    }

    pub fn add(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(self.time);
        header.set_entry_type(tar::EntryType::Regular);
        self.tar.append_data(&mut header, format!("{FOLDER}/{name}"), content)?;
        self.entries.push(Entry::of(name, content));
        Ok(())
    }

    /// What is in it so far.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub fn finish(self) -> io::Result<W> {
        self.tar.into_inner()?.finish()
    }
}

/// The files of an archive, by name.
pub fn read(archive: impl Read) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut left = MOST_BYTES;
    let mut tar = tar::Archive::new(GzDecoder::new(BufReader::new(archive)));
    for entry in tar.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let name = path.strip_prefix(FOLDER).and_then(|rest| rest.strip_prefix('/'));
        let unexpected =
            || io::Error::other(format!("`{}` does not belong into it", path.escape_debug()));
        let name = name.filter(|_| entry.header().entry_type().is_file());
        let name = name.ok_or_else(unexpected)?.to_owned();
        let mut content = Vec::new();
        let read = (&mut entry).take(left + 1).read_to_end(&mut content)? as u64;
        left = left.checked_sub(read).ok_or_else(|| io::Error::other("it is too large"))?;
        if files.insert(name, content).is_some() {
            return Err(unexpected());
        }
    }
    // Whoever unpacks it with other tools may find what is behind the end.
    let mut gzip = tar.into_inner();
    let mut rest = Vec::new();
    (&mut gzip).take(MOST_PADDING).read_to_end(&mut rest)?;
    let is_padded = rest.iter().all(|byte| *byte == 0) && (rest.len() as u64) < MOST_PADDING;
    if !is_padded || !gzip.into_inner().fill_buf()?.is_empty() {
        return Err(io::Error::other("there is something behind its end"));
    }
    Ok(files)
}

/// What is not as a list of files says.
#[must_use]
pub fn find_difference(files: &BTreeMap<String, Vec<u8>>, entries: &[Entry]) -> Option<String> {
    for entry in entries {
        match files.get(&entry.name) {
            None => return Some(format!("`{}` is missing", entry.name)),
            Some(content) if Entry::of(&entry.name, content) != *entry => {
                return Some(format!("`{}` is not what the manifest says", entry.name));
            }
            Some(_) => {}
        }
    }
    let listed = |name: &String| entries.iter().any(|entry| entry.name == *name);
    files.keys().find(|name| !listed(name)).map(|name| format!("`{name}` is not in the manifest"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built() -> Vec<u8> {
        let mut builder = Builder::new(Vec::new(), 1_700_000_000);
        builder.add("a.ndjson", b"{}\n").unwrap();
        builder.add("b.txt", &[7; 1_000]).unwrap();
        builder.finish().unwrap()
    }

    #[test]
    fn what_is_written_is_read_and_the_same_content_gives_the_same_bytes() {
        let bytes = built();
        assert_eq!(bytes, built());
        let files = read(&bytes[..]).unwrap();
        assert_eq!(files["a.ndjson"], b"{}\n");
        assert_eq!(files["b.txt"], [7; 1_000]);
        let entries = [Entry::of("a.ndjson", b"{}\n"), Entry::of("b.txt", &[7; 1_000])];
        assert_eq!(find_difference(&files, &entries), None);
        assert!(find_difference(&files, &entries[..1]).unwrap().contains("not in the manifest"));
        let other = [Entry::of("a.ndjson", b"{} \n"), Entry::of("b.txt", &[7; 1_000])];
        assert!(find_difference(&files, &other).unwrap().contains("not what the manifest says"));
        let more = [entries[0].clone(), entries[1].clone(), Entry::of("c", b"")];
        assert!(find_difference(&files, &more).unwrap().contains("`c` is missing"));
    }

    #[test]
    fn nothing_hides_behind_the_end() {
        let mut twice = built();
        twice.extend(built());
        assert!(read(&twice[..]).unwrap_err().to_string().contains("behind its end"));
        let mut tar = Vec::new();
        GzDecoder::new(&built()[..]).read_to_end(&mut tar).unwrap();
        for (more, is_fine) in [(vec![0; 9_000], true), (vec![1], false), (vec![0; 70_000], false)]
        {
            let mut gzip = GzBuilder::new().write(Vec::new(), Compression::fast());
            gzip.write_all(&[&tar[..], &more].concat()).unwrap();
            assert_eq!(read(&gzip.finish().unwrap()[..]).is_ok(), is_fine);
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["../evil", "/etc/passwd", "other/file", "keydrift-evidence/../../evil"] {
            let mut tar =
                tar::Builder::new(GzBuilder::new().write(Vec::new(), Compression::fast()));
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(1);
            header.set_entry_type(tar::EntryType::Regular);
            header.set_cksum();
            tar.append(&header, &b"x"[..]).unwrap();
            let bytes = tar.into_inner().unwrap().finish().unwrap();
            match read(&bytes[..]) {
                Err(error) => assert!(error.to_string().contains("does not belong"), "{error}"),
                // Nothing is ever written: a strange name is a name.
                Ok(files) => assert_eq!(files.keys().collect::<Vec<_>>(), ["../../evil"]),
            }
        }
        assert!(read(&b"no archive"[..]).is_err());
    }
}
