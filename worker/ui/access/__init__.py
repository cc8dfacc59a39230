"""Who may look: logins, people, the identity provider, and limits on what is uploaded."""
