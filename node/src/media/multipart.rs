//! The `multipart/mixed` answers in which servers hand media to each other (server-server specification, "Content
//! repository"): a part of JSON metadata, then the file. Written and read as a stream.

use std::ops::Range;

/// The longest head (everything before the file) that is read, in bytes.
const LONGEST_HEAD: usize = 16 << 10;

/// What comes before the file.
pub fn head(boundary: &str, content_type: &str, disposition: &str) -> String {
    format!(
        "--{boundary}\r\nContent-Type: application/json\r\n\r\n{{}}\r\n\
         --{boundary}\r\nContent-Type: {content_type}\r\nContent-Disposition: {disposition}\r\n\r\n"
    )
}

/// What comes after it.
pub fn tail(boundary: &str) -> String {
    format!("\r\n--{boundary}--\r\n")
}

/// What the second part says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// Content type of the file.
    pub content_type: Option<String>,
    /// Its name.
    pub filename: Option<String>,
    /// Where the file is instead, if the server redirects.
    pub location: Option<String>,
}

/// An answer that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not the multipart form that media come in")]
pub struct Malformed;

/// Reads such an answer piece by piece.
#[derive(Debug)]
pub struct Reader {
    delimiter: Vec<u8>,
    buffer: Vec<u8>,
    head: Option<Head>,
    ended: bool,
}

impl Reader {
    /// A reader for an answer with this `Content-Type`.
    ///
    /// # Errors
    /// It is not `multipart/mixed` with a boundary.
    pub fn new(content_type: &str) -> Result<Self, Malformed> {
        let (kind, parameters) = content_type.split_once(';').ok_or(Malformed)?;
        if !kind.trim().eq_ignore_ascii_case("multipart/mixed") {
            return Err(Malformed);
        }
        let boundary = parameters
            .split(';')
            .filter_map(|parameter| parameter.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"))
            .map(|(_, value)| value.trim().trim_matches('"'))
            .filter(|boundary| (1..=70).contains(&boundary.len()))
            .ok_or(Malformed)?;
        // The first delimiter has no line before it.
        Ok(Self {
            delimiter: format!("\r\n--{boundary}").into_bytes(),
            buffer: b"\r\n".to_vec(),
            head: None,
            ended: false,
        })
    }

    /// Takes bytes; gives those of the file among them.
    ///
    /// # Errors
    /// The answer is malformed, or its head endless.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
        if self.ended {
            return Ok(Vec::new());
        }
        self.buffer.extend_from_slice(bytes);
        if self.head.is_none() {
            match self.read_head()? {
                Some((head, end)) => {
                    self.buffer.drain(..end);
                    self.head = Some(head);
                }
                None if self.buffer.len() > LONGEST_HEAD => return Err(Malformed),
                None => return Ok(Vec::new()),
            }
        }
        let end = match find(&self.buffer, &self.delimiter) {
            Some(found) => {
                self.ended = true;
                found.start
            }
            // The delimiter may have begun.
            None => self.buffer.len().saturating_sub(self.delimiter.len() - 1),
        };
        let rest = self.buffer.split_off(end);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    /// What the second part says, once it was read.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Whether the file is complete.
    pub fn is_complete(&self) -> bool {
        self.ended
    }

    fn read_head(&self) -> Result<Option<(Head, usize)>, Malformed> {
        let Some(first) = find(&self.buffer, &self.delimiter) else { return Ok(None) };
        let rest = self.buffer.get(first.end..).ok_or(Malformed)?;
        let Some(second) = find(rest, &self.delimiter) else { return Ok(None) };
        let start = first.end + second.end;
        let rest = self.buffer.get(start..).ok_or(Malformed)?;
        let Some(end) = find(rest, b"\r\n\r\n") else { return Ok(None) };
        let text = rest.get(..end.start).and_then(|head| std::str::from_utf8(head).ok()).ok_or(Malformed)?;
        let mut head = Head::default();
        for line in text.split("\r\n") {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match name.trim().to_ascii_lowercase().as_str() {
                "content-type" => head.content_type = Some(value.to_owned()),
                "content-disposition" => head.filename = filename(value),
                "location" => head.location = Some(value.to_owned()),
                _ => {}
            }
        }
        Ok(Some((head, start + end.end)))
    }
}

/// The file name that a `Content-Disposition` carries (RFC 6266).
pub fn filename(disposition: &str) -> Option<String> {
    let mut plain = None;
    for parameter in disposition.split(';').skip(1) {
        let Some((name, value)) = parameter.split_once('=') else { continue };
        match name.trim().to_ascii_lowercase().as_str() {
            "filename*" => {
                let encoded = value.trim().split_once("''").map(|(_, encoded)| encoded)?;
                return decode(encoded);
            }
            "filename" => plain = Some(value.trim().trim_matches('"').to_owned()),
            _ => {}
        }
    }
    plain.filter(|name| !name.is_empty())
}

fn decode(encoded: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut left = encoded.bytes();
    while let Some(byte) = left.next() {
        if byte == b'%' {
            let digits = [left.next()?, left.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<Range<usize>> {
    let start = haystack.windows(needle.len()).position(|window| window == needle)?;
    Some(start..start + needle.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(answer: &[u8], piece: usize) -> Result<(Vec<u8>, Head, bool), Malformed> {
        let mut reader = Reader::new("multipart/mixed; boundary=gleis9").unwrap();
        let mut file = Vec::new();
        for bytes in answer.chunks(piece) {
            file.extend(reader.feed(bytes)?);
        }
        Ok((file, reader.head().cloned().unwrap_or_default(), reader.is_complete()))
    }

    #[test]
    fn a_file_reads_back_whatever_the_pieces_it_comes_in() {
        let file = b"some\r\n--gleis8 bytes\r\n-".repeat(9);
        let mut answer = head("gleis9", "image/png", "inline; filename*=utf-8''b%C3%A4r.png").into_bytes();
        answer.extend_from_slice(&file);
        answer.extend_from_slice(tail("gleis9").as_bytes());
        for piece in [1, 2, 7, 64, 10_000] {
            let (read, head, complete) = read(&answer, piece).unwrap();
            assert_eq!(read, file, "in pieces of {piece}");
            assert!(complete);
            assert_eq!(head.filename.as_deref(), Some("bär.png"));
            assert_eq!(head.content_type.as_deref(), Some("image/png"));
        }
    }

    #[test]
    fn an_answer_cut_off_is_not_complete_and_an_endless_head_is_refused() {
        let mut answer = head("gleis9", "image/png", "inline").into_bytes();
        answer.extend_from_slice(b"half a file");
        assert!(!read(&answer, 5).unwrap().2);
        assert_eq!(read(&vec![b'x'; LONGEST_HEAD + 10], 100).unwrap_err(), Malformed);
        assert!(Reader::new("application/json").is_err());
        assert!(Reader::new("multipart/mixed; boundary=").is_err());
    }
}
