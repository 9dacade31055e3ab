"""Family `masked`: latents coded by a masked transformer alone (specs/masked.md)."""
