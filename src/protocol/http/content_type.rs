//! Content types of files, by the ending of their names.
//!
//! Source: the registry of media types (IANA); WHATWG HTML and RFC 9239 for JavaScript.

/// Endings in lower case, and the types of such files. Sorted by ending. Text has its charset, because a browser
/// would guess otherwise: what is new on the web is UTF-8. JSON and XML say theirs themselves.
const TYPES: &[(&str, &str)] = &[
    ("7z", "application/x-7z-compressed"),
    ("aac", "audio/aac"),
    ("apng", "image/apng"),
    ("atom", "application/atom+xml"),
    ("avif", "image/avif"),
    ("bmp", "image/bmp"),
    ("br", "application/x-brotli"),
    ("bz2", "application/x-bzip2"),
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("doc", "application/msword"),
    (
        "docx",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ),
    ("eot", "application/vnd.ms-fontobject"),
    ("epub", "application/epub+zip"),
    ("flac", "audio/flac"),
    ("geojson", "application/geo+json"),
    ("gif", "image/gif"),
    ("glb", "model/gltf-binary"),
    ("gltf", "model/gltf+json"),
    ("gz", "application/gzip"),
    ("heic", "image/heic"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/x-icon"),
    ("ics", "text/calendar; charset=utf-8"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("jsonld", "application/ld+json"),
    ("jxl", "image/jxl"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("m4a", "audio/mp4"),
    ("m4s", "video/iso.segment"),
    ("map", "application/json"),
    ("md", "text/markdown; charset=utf-8"),
    ("mid", "audio/midi"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("mov", "video/quicktime"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("mpd", "application/dash+xml"),
    ("mpeg", "video/mpeg"),
    ("odp", "application/vnd.oasis.opendocument.presentation"),
    ("ods", "application/vnd.oasis.opendocument.spreadsheet"),
    ("odt", "application/vnd.oasis.opendocument.text"),
    ("oga", "audio/ogg"),
    ("ogg", "audio/ogg"),
    ("ogv", "video/ogg"),
    ("opus", "audio/ogg"),
    ("otf", "font/otf"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("ppt", "application/vnd.ms-powerpoint"),
    (
        "pptx",
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ),
    ("rss", "application/rss+xml"),
    ("rtf", "application/rtf"),
    ("svg", "image/svg+xml"),
    ("tar", "application/x-tar"),
    ("tgz", "application/gzip"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("ts", "video/mp2t"),
    ("tsv", "text/tab-separated-values; charset=utf-8"),
    ("ttf", "font/ttf"),
    ("txt", "text/plain; charset=utf-8"),
    ("vtt", "text/vtt; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("wav", "audio/wav"),
    ("weba", "audio/webm"),
    ("webm", "video/webm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xhtml", "application/xhtml+xml"),
    ("xls", "application/vnd.ms-excel"),
    (
        "xlsx",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ),
    ("xml", "application/xml"),
    ("xz", "application/x-xz"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("zip", "application/zip"),
    ("zst", "application/zstd"),
];

/// The type of a file whose name has no ending, or one that is not in the table.
const BYTES: &str = "application/octet-stream";

/// The content type of a file with this name or path. The ending is compared without case.
pub fn content_type_of_name(name: &str) -> &'static str {
    let name = name.rsplit('/').next().unwrap_or(name);
    let Some((_, ending)) = name.rsplit_once('.') else {
        return BYTES;
    };
    let ending = ending.to_ascii_lowercase();
    match TYPES.binary_search_by(|(known, _)| (*known).cmp(ending.as_str())) {
        Ok(index) => TYPES[index].1,
        Err(_) => BYTES,
    }
}

#[cfg(test)]
mod tests {
    use super::super::encode::is_header;
    use super::*;

    #[test]
    fn types_by_ending() {
        for (name, expected) in [
            ("index.html", "text/html; charset=utf-8"),
            ("INDEX.HTM", "text/html; charset=utf-8"),
            ("a/b.tar.gz", "application/gzip"),
            ("app.min.js", "text/javascript; charset=utf-8"),
            ("module.mjs", "text/javascript; charset=utf-8"),
            ("logo.svg", "image/svg+xml"),
            ("x.wasm", "application/wasm"),
            ("data.json", "application/json"),
            ("README", BYTES),
            ("a.b/README", BYTES),
            ("x.", BYTES),
            ("x.unknown", BYTES),
            ("", BYTES),
        ] {
            assert_eq!(content_type_of_name(name), expected, "{name}");
        }
    }

    #[test]
    fn the_table_is_sorted_and_can_be_sent() {
        assert!(TYPES.is_sorted_by(|(one, _), (next, _)| one < next));
        for (ending, content_type) in TYPES {
            assert_eq!(content_type_of_name(&format!("x.{ending}")), *content_type);
            assert!(is_header("Content-Type", content_type), "{content_type}");
            let is_text = content_type.starts_with("text/");
            assert_eq!(content_type.contains("charset=utf-8"), is_text, "{ending}");
        }
    }
}
