"""Face analysis: back ends for parsing, landmarks and pose; crops and tracks; maps as images."""
