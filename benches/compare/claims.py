"""What the tokens of a run say and the policies ask for."""

ISSUER = "https://idp.example.com/"
AUDIENCE = "https://api.example.com"
SCOPE = "orders:read"
