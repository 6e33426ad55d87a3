//! Tables for the mirror.

use super::*;
