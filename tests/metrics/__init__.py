"""What servers count, and how it is scraped; what it is they count, their own tests say."""
