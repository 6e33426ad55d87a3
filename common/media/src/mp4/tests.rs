mod ffmpeg;
mod hostile;
mod made;
mod support;
