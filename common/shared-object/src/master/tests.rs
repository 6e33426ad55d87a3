//! Tables for the owner's object.

use super::*;
