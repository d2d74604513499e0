"""Phrases of the topic `network`: VPN, wifi, lines, routers and latency."""

TEAM = "NET-2"

SLOTS = {
    "net": "VPN|wifi|office network|internet line|wireless|LAN|VPN tunnel|broadband line",
    "drop": "drops|disconnects|cuts out|breaks down|goes offline|is unstable",
    "slow": "very slow|unstable|unreachable|down|timing out|congested",
    "gear": "router|network switch|access point|firewall|proxy|gateway|modem",
    "metric": "latency|packet loss|jitter|ping|bandwidth|throughput",
    "conn": "connection|internet connection|network connection|uplink|link",
    "addr": "DNS name|IP address|subnet|port|host name",
    "place": "on the third floor|in the branch|in the meeting room|at the Lyon site|in the annex|from home",
}

# Slots whose words other topics use too: a form that has little beside these is given a detail.
WEAK = {"drop", "slow", "place", "conn"}

DETAILS = """
the {gear} and the {net} were restarted
we see {metric} at the {gear}
the {net} goes through the {gear}
the {addr} and the {gear} are the same as before
{metric} on the {net} is bad
a test of the {net} shows {metric}
the {gear} logs list the {addr}
the {addr} on the {net} did not change
"""

SKELETONS = """
the {net} {drop} every few minutes when I use {p}
the {net} {place} is {slow} and {p} times out
I have no {conn} so {p} does not load
packets to {p} are lost and the {conn} {drop}
the {gear} restarts and {p} goes offline
{addr} lookups for {p} fail {place}
the {metric} to {p} is terrible all morning
the {gear} blocks the {addr} that {p} needs
the {gear} returns a gateway timeout for {p}
{place} the {net} has no signal
the {conn} to {p} {drop} during calls
we see high {metric} on the {net}
since the change of the {gear} the {net} {drop}
my computer gets no {addr} from the {net}
the {net} connects but the {metric} is awful
{p} is {slow} over the {net} but fine elsewhere
the {net} client says the {gear} does not answer
could you open the {addr} for {p} on the {gear}
the {gear} {place} shows a red light and the {net} is {slow}
the {conn} {place} {drop} whenever it rains
wireless coverage {place} is weak and the {conn} {drop}
the {addr} of {p} cannot be resolved
a traceroute shows {metric} behind the {gear}
downloads over the {net} crawl and {p} is {slow}
the {net} asks to reconnect again and again
after the {gear} update nothing {place} reaches {p}
the {conn} speed {place} fell to almost nothing
video calls stutter because of the {metric} on the {net}
the {gear} drops traffic to {p}
ping to {p} fails through the {net}
the {net} {place} {drop} and comes back after a minute
we cannot reach {p} because the {gear} is {slow}
the {addr} of our {gear} changed and {p} is {slow}
roaming between two points makes the {net} {drop}
the {conn} between our site and {p} is {slow}
guest {net} {place} is {slow}
the {net} certificate page never loads and the {conn} {drop}
{metric} makes {p} useless {place}
the {gear} keeps rebooting
our {net} is {slow} and the provider sees {metric}
an {addr} conflict on the {net} cuts off my {conn}
the cable to the {gear} has no link so {p} is unreachable
{p} reports a timeout as soon as the {net} {drop}
when I work {place} the {net} is {slow}
no {conn} {place} since the storm
routing to {p} goes wrong at the {gear}
the {net} hands out a wrong {addr}
the {conn} is {slow} each day at noon and {metric} rises
the {gear} rule for {p} seems to block our {addr}
there is {metric} between the {gear} and {p}
I can join the {net} but there is no internet
load balancing on the {gear} breaks the {conn} to {p}
"""
