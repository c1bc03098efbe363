"""What the Redshift destination needs to know of Redshift: its wire, its logins, its errors, and what was loaded."""
