//! Bytes that are nearly always text: paths.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// A path as JSON carries it: a string, or `{"bytes": "<base64>"}` where it is not UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct Text(pub Vec<u8>);

impl Text {
    #[must_use]
    pub fn into_path(self) -> PathBuf {
        OsString::from_vec(self.0).into()
    }
}

impl From<PathBuf> for Text {
    fn from(path: PathBuf) -> Text {
        Text(path.into_os_string().into_vec())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form {
    Text(String),
    Bytes { bytes: String },
}

impl TryFrom<Form> for Text {
    type Error = base64::DecodeError;

    fn try_from(form: Form) -> Result<Text, base64::DecodeError> {
        match form {
            Form::Text(text) => Ok(Text(text.into_bytes())),
            Form::Bytes { bytes } => STANDARD.decode(bytes).map(Text),
        }
    }
}

impl From<Text> for Form {
    fn from(text: Text) -> Form {
        match String::from_utf8(text.0) {
            Ok(text) => Form::Text(text),
            Err(fault) => Form::Bytes {
                bytes: STANDARD.encode(fault.as_bytes()),
            },
        }
    }
}
