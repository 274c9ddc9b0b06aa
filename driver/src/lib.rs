//! drawbridge
