"""What is typed into the editor."""

# The line with this comment is the wrong one.
WRONG = "# wrong"
# Where the cursor is.
CURSOR = "▮"

SLIPS = {
    "a method in a role": f"""
version: 1
services:
  app:
    hosts: [api.example.com]
    roles:
      reader:
        - GET /user
        - GTE /repos/** {WRONG}
""",
    "a kind of line in a role": f"""
version: 1
services:
  board:
    mcp: https://mcp.example.com/mcp
    roles:
      reader:
        - tol list_* {WRONG}
        - prompt plan
""",
    "a key of a guard": f"""
version: 1
guards:
  - match: DELETE /repos/*/*
    deny: deletions are made by people
    requires: approval {WRONG}
""",
    "a tier": f"""
version: 1
tenants:
  acme:
    integrations:
      github:
        tier: app {WRONG}
        credential: none
""",
    "the unit of a limit": f"""
version: 1
tenants:
  acme:
    integrations:
      github:
        credential: none
        limit: 120/minute {WRONG}
""",
    "a secret in place of a reference": f"""
version: 1
tenants:
  acme:
    integrations:
      github:
        credential:
          static:
            bearer: ghp_4f8a2c19d7e6b305 {WRONG}
""",
}
SECRET = "ghp_4f8a2c19d7e6b305"

# Taken for a policy by its name, as an editor's settings say, not by its first line.
BY_NAME = ("by-settings-*.yaml", "by-settings-1.yaml", SLIPS["a tier"])

GUARD = f"""
version: 1
guards:
  - match: DELETE /repos/*/*
    deny: deletions are made by people
  - {CURSOR}
"""
GUARD_KEYS = {"match", "deny", "require", "when", "shadow"}

TIER_KEY = f"""
version: 1
tenants:
  acme:
    integrations:
      github:
        ti{CURSOR}er: USER
        credential: none
"""

TIER_VALUE = f"""
version: 1
tenants:
  acme:
    integrations:
      github:
        tier: {CURSOR}
"""
