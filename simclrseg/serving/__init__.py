"""A page to try a model, and `POST /predict` for other programs: one open model, asked over HTTP, all in memory."""
