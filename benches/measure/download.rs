//! The floor of a scan: the same pages, one after the other over one connection, and nothing done with them.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Downloads every page of the listing, and gives back how many keys were on them.
pub(crate) fn download(addr: SocketAddr, credential: &str) -> io::Result<usize> {
    let mut stream = BufReader::with_capacity(1 << 16, TcpStream::connect(addr)?);
    stream.get_ref().set_nodelay(true)?;
    let mut after = String::new();
    let mut body = Vec::new();
    let mut keys = 0;
    loop {
        let request = format!(
            "GET /v1/organization/admin_api_keys?order=asc&limit=100{after} HTTP/1.1\r\nhost: {addr}\r\nauthorization: Bearer {credential}\r\naccept: application/json\r\n\r\n"
        );
        stream.get_mut().write_all(request.as_bytes())?;
        read_body(&mut stream, &mut body)?;
        let count = occurrences(&body, b"\"redacted_value\"");
        keys += count;
        match last_id(&body).filter(|_| count > 0) {
            Some(last) if contains(&body, b"\"has_more\":true") => after = format!("&after={last}"),
            _ => return Ok(keys),
        }
    }
}

fn read_body(stream: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> io::Result<()> {
    let mut length = None;
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let header = line.trim_end();
        if header.is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok();
        }
    }
    let length = length.ok_or_else(|| io::Error::other("an answer without a length"))?;
    body.resize(length, 0);
    stream.read_exact(body)
}

fn occurrences(body: &[u8], what: &[u8]) -> usize {
    let first = what[0];
    let starts = body.iter().enumerate().filter(|(_, byte)| **byte == first);
    starts.filter(|(at, _)| body[*at..].starts_with(what)).count()
}

fn contains(body: &[u8], what: &[u8]) -> bool {
    let tail = &body[body.len().saturating_sub(400)..];
    tail.windows(what.len()).any(|window| window == what)
}

fn last_id(body: &[u8]) -> Option<String> {
    let mark = b"\"last_id\":\"";
    let at = body.windows(mark.len()).rposition(|window| window == mark)? + mark.len();
    let end = body[at..].iter().position(|byte| *byte == b'"')?;
    String::from_utf8(body[at..at + end].to_vec()).ok()
}
