"""Phrases of the topic `security`: phishing, malware, leaks and intrusions."""

TEAM = "SEC-6"

SLOTS = {
    "threat": "malware|a virus|ransomware|spyware|a trojan|a malicious script",
    "phish": "phishing mail|suspicious link|fake message|scam mail|spoofed mail|suspicious attachment",
    "actor": "someone unknown|a stranger|an attacker|an intruder|a hacker|an unknown person",
    "secret": "API key|private key|secret key|access key|signing key",
    "leak": "leaked|exposed|stolen|published by mistake|compromised|disclosed",
    "alarm": "audit log|intrusion alert|security scanner|antivirus|security alert",
    "far": "from another country|at three in the night|from an unknown device|from a foreign address",
}

# Slots whose words other topics use too: a form that has little beside these is given a detail.
WEAK = {"far", "leak", "actor"}

DETAILS = """
the {alarm} points to {threat}
it came with a {phish}
the {alarm} found a {phish}
we fear {threat} and {actor}
the {secret} may be {leak}
{actor} may have the {secret}
the {alarm} names {actor}
a {phish} with {threat} came before
"""

SKELETONS = """
I received a {phish} that pretends to be {p}
{actor} entered my {p} session {far}
{threat} was found on the machine that runs {p}
customer files from {p} were {leak}
an {secret} for {p} was {leak}
I clicked a {phish} about {p} and entered my details
a lost machine still has {p} files and may be {leak}
the {alarm} of {p} shows an unexpected action by {actor}
a former contractor still holds an {secret} for {p}
{p} shows a warning that looks forged like a {phish}
the {alarm} reports {threat}
the {alarm} found a {phish} in my inbox
{actor} sent a {phish} in the name of our director
my mailbox sends a {phish} to everyone
I opened a {phish} and now {threat} may be here
we think an {secret} was {leak}
{actor} tried to break in to {p} {far}
the {alarm} shows activity {far}
files were encrypted by {threat}
please revoke the {secret}, it was {leak}
an {secret} was found in a public repository
personal files were {leak} to the wrong person
the {alarm} warns of {threat} near {p}
there is a vulnerability in {p} that {actor} could use
{actor} called and asked for my details, then a {phish} came
a stick with {threat} was found in the car park
a confidential file from {p} was {leak}
the backdoor in {p} was used by {actor}
our {secret} is in a chat and so it is {leak}
the {phish} looks like a message from {p}
I suspect a breach, files were {leak}
{actor} changed settings in {p} {far}
{threat} spreads through {p}
a pop-up says {threat} is on my machine
the {alarm} of {p} was switched off by {actor}
I reported a {phish} but it came again
my machine acts as if {threat} were on it
the {secret} of {p} was {leak} by a supplier
an unsafe macro in a {phish} started {threat}
{actor} was seen in the server room
{p} exposes a {secret} in its page
several people got the same {phish}
the {alarm} lists a brute force attack {far}
confidential papers were {leak}
the firewall of {p} was bypassed by {actor}
a stolen badge was used by {actor}
quarantine failed and {threat} is still there
{far} {actor} downloaded files
a {phish} asks to pay with gift vouchers
the {secret} must be rotated because it was {leak}
{threat} came with a {phish}
an incident: {actor} copied files and they were {leak}
"""
