"""Sign-in as a source: an application asks, and a function answers, as in Amazon Cognito."""
