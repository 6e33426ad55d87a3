mod ffmpeg;
mod hostile;
mod made;
pub(super) mod support;
