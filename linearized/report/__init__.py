"""What a person looks at: pictures of results, the HTML page, and the figures of the published experiment."""
