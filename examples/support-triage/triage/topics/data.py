"""Phrases of the topic `data`: tables, exports, syncs, backups and reports."""

TEAM = "DBA-5"

SLOTS = {
    "rec": "rows|records|entries|columns|fields|data sets|values",
    "store": "table|database|warehouse|dashboard|export|dataset|report|data feed",
    "job": "sync|import|data migration|nightly load|backup|replication|data pipeline|batch job",
    "bad": "missing|duplicated|stale|corrupted|shifted|overwritten|truncated|incomplete",
    "err": "schema mismatch|foreign key error|type error|null value|deadlock|checksum error",
    "query": "query|SQL query|lookup|join|aggregation",
}

# Slots whose words other topics use too: a form that has little beside these is given a detail.
WEAK = {"bad"}

DETAILS = """
the {job} wrote the {rec}
a {query} on the {store} proves it
the {store} had all {rec} before the {job}
the {rec} come from the {job}
the {job} shows a {err}
the {store} is filled by the {job}
the {query} found the {rec}
the {err} is in the {job} log
"""

SKELETONS = """
{rec} are {bad} in the {p} {store}
the nightly report from {p} shows {bad} {rec}
the {job} into {p} failed with a {err}
the {p} {store} numbers do not match the warehouse
a column in {p} was {bad} with null values
please restore the {p} {store} from the backup
the {job} from {p} stopped and the {rec} are {bad}
the {query} on {p} runs for an hour and never returns
dates in the {p} {store} are shifted by one day
the {job} of {p} left broken foreign keys
the {store} has {bad} {rec} since the last {job}
the {job} ended with a {err}
{rec} in the {store} are {bad}
the {query} returns {bad} {rec}
the totals in the {store} are {bad}
a {job} wrote {bad} {rec} to the {store}
the {store} of {p} has not been refreshed since the {job}
half of the {rec} are {bad} after the {job}
the {p} {job} skips {rec}
a {err} stops the {job} each night
the {query} on the {store} gives a {err}
customer {rec} in {p} are {bad}
the {store} shows {rec} from last year only
the csv {store} from {p} has {bad} {rec}
we need a restore because {rec} are {bad}
the {job} runs twice and {rec} are {bad}
the index of the {store} is broken and the {query} is slow
old {rec} came back in the {store} after the {job}
the {store} and the {p} {store} disagree on {rec}
the {job} log of {p} reports a {err}
umlauts in the {rec} of the {store} are {bad}
the archive of {p} is {bad}
decimals in the {store} are {bad} after the {job}
a {query} shows that {rec} are {bad}
the {store} lost its {rec} overnight
the primary key of the {p} {store} has {bad} values
the {job} between {p} and the {store} lags
the {rec} we loaded into {p} are {bad}
a filter in the {store} hides {rec} that are not {bad}
the {store} was dropped by mistake, please restore the {rec}
the schema of {p} changed and the {job} has a {err}
two {rec} share one id in the {store}
the {job} is stuck and the {store} is {bad}
statistics in the {store} count {rec} twice
the {p} {store} is empty after the {job}
merging the {rec} gave a {err}
the {query} for the {store} times out on {rec}
the weekly {store} contains {bad} figures
the {job} cannot read the {rec} because of a {err}
historic {rec} of {p} are {bad} in the {store}
a rollback left the {store} with {bad} {rec}
the checksum of the {job} says {rec} are {bad}
"""
