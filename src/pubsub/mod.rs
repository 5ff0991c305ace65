//! Topics, patterns and payloads: who gets a message, and in which bytes. Pure.
