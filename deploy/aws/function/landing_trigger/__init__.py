"""A Lambda function: S3 says that an object of the landing zone changed, this tells Dagster, once per change.

The report is a hint to look at the day. Dagster's landing sensor looks at the files itself, so a report that is made
twice doubles no data, and this code never reads an object.

`events` is what S3 says, `known` which of it is news, `webserver` Dagster's API, `handler` what Lambda calls. Standard
library only: the folder above is deployed as it is.
"""
