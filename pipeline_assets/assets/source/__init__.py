"""From landing files to events: reading rows as text, and the SELECT that makes events of them."""
