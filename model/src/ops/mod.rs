//! What is no contraction: plain vectorised code, divided among threads where that pays.
