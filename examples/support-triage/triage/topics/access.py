"""Phrases of the topic `access`: accounts, sign-in, second factors and permissions."""

TEAM = "IAM-1"

SLOTS = {
    "login": "log in to|sign in to|get into|log on to|authenticate with",
    "cred": "password|passcode|login|PIN|passphrase|credentials",
    "mfa": "second factor|authenticator code|one-time code|verification code|authenticator app",
    "acct": "account|user account|profile|user id|login account",
    "shut": "locked|disabled|suspended|deactivated|blocked",
    "refuse": "rejected|refused|not accepted|reported as invalid|denied",
    "perm": "permission|role|access right|entitlement|group membership",
    "sso": "single sign-on|SSO|the sign-in page|the login page|the login form",
    "who": "the new hire|our trainee|the intern|my new colleague|the contractor",
}

# Slots whose words other topics use too: a form that has little beside these is given a detail.
WEAK = {"refuse", "shut", "who"}

DETAILS = """
I tried my {cred} and the {mfa}
my {acct} and its {perm} are in order
{sso} was tried too
the {acct} uses the {mfa}
a new {cred} did not help
the {perm} of my {acct} was checked
I {login} it with my {cred} each day
without my {acct} I cannot {login} it
"""

SKELETONS = """
I cannot {login} {p}
I am unable to {login} {p} since the morning
my {cred} for {p} is {refuse}
my {cred} for {p} expired and the reset link fails
the {mfa} never arrives when I {login} {p}
my {acct} on {p} is {shut} after several attempts
{p} says my {cred} (is|are) invalid
{sso} of {p} loops back to the login page
I lost my phone with the {mfa} and cannot {login} {p}
my {perm} in {p} was removed and I see access denied
{who} has no {acct} in {p} yet
the {perm} I need in {p} is missing from my {acct}
please unlock my {acct} in {p}
please reset my {cred} for {p}
I forgot my {cred} and need to {login} {p}
{who} cannot {login} {p} with the {cred} we gave
every time I {login} {p} the {mfa} is {refuse}
{sso} keeps asking for my {cred} again and again
my {acct} was {shut} while I was on holiday
after I changed my {cred} the {acct} was {shut}
the reset mail for my {cred} does not come
I get access denied although I have the {perm}
could you grant {who} the {perm} for {p}
{who} needs a {perm} and an {acct} in {p}
the {mfa} for {p} is {refuse} on my new phone
I have two users in {p} and cannot {login} either {acct}
signing in to {p} ends with the message {acct} {shut}
my {acct} in {p} shows the wrong {perm}
the {cred} reset page of {p} says the link is expired
I typed my {cred} wrong three times and now the {acct} is {shut}
{p} logs me out and the {mfa} is asked for once more
{sso} does not recognise my {acct}
an administrator must approve my {perm} before I can {login} {p}
I returned from parental leave and my {acct} is {shut}
I moved to another department and lost my {perm} in {p}
the username for {p} is unknown and the {cred} is {refuse}
{who} still waits for the {acct} and the {perm}
my {mfa} is out of step and {p} will not let me {login} it
on the first day {who} could not {login} {p}
I am locked out of {p} because the {mfa} is {refuse}
{sso} throws an error after I enter the {cred}
the {cred} I was sent for {p} does not let me sign in
give me back the {perm} for {p} please
login to {p} fails with {acct} not found
my user was renamed and now I cannot {login} {p}
the session in {p} ends and my {cred} is {refuse}
I need a temporary {cred} so that I can {login} {p}
access to {p} is denied and my {acct} seems to be {shut}
can someone enable the {acct} of {who} in {p}
registering the {mfa} on my phone for {p} fails
with my {acct} I can {login} {p} but the {perm} is gone
neither the {cred} nor the {mfa} works for {p}
"""
