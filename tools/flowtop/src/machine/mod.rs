//! What is shown, and what keys do. Values in, a screen of cells out: no terminal, no socket, no clock.

pub mod event;
pub mod flow;
pub mod flows;
pub mod key;
pub mod order;
pub mod ring;
pub mod screen;
pub mod svg;
pub mod text;
pub mod told;
pub mod view;
