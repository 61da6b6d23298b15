"""The prompt language: pure functions from text to pieces, schedules, tokens, tags and file names.

Nothing here reads an option, touches torch or knows the server. A prompt goes through these modules in this order:
``styles`` → ``comments`` → ``networks`` → ``composition`` → ``editing`` → ``attention`` → ``chunks``.
"""
