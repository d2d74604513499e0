"""Phrases of the topic `shipping`: parcels, couriers, deliveries and customs."""

TEAM = "LOG-9"

SLOTS = {
    "parcel": "parcel|package|shipment|consignment|pallet|crate|delivery",
    "carrier": "courier|carrier|delivery driver|postal service|freight company|haulier",
    "late": (
        "is delayed|is lost|is stuck in customs|arrived damaged|never arrived|went to the wrong address|was returned"
    ),
    "track": "tracking number|tracking page|waybill|delivery note|shipping label|consignment note",
    "customs": "customs form|customs declaration|import duty|customs clearance|export papers",
    "spot": "loading dock|depot|goods entrance|reception|pick-up point|sorting centre",
}

# Slots whose words other topics use too: a form that has little beside these is given a detail.
WEAK = {"late", "spot"}

DETAILS = """
the {carrier} has the {parcel}
the {track} was sent by the {carrier}
the {parcel} has a {track}
the {customs} and the {track} are attached
the {carrier} was called about the {parcel}
the {parcel} was booked with the {carrier}
the {customs} is with the {carrier}
the {track} of the {parcel} is at hand
"""

SKELETONS = """
the {parcel} with the {p} devices {late}
our {parcel} {late}
the {carrier} did not come for the {parcel}
the {track} for the {parcel} shows nothing
the {parcel} is held because the {customs} is missing
the {carrier} left the {parcel} at the {spot}
the {track} says the {parcel} {late}
the {parcel} from {p} {late}
please send the {parcel} again, it {late}
the {carrier} asks for the {customs}
we wait for the {parcel} since Monday and the {track} is silent
half of the {parcel} {late}
the {parcel} was signed for but is not at the {spot}
the {carrier} lost our {parcel}
the {track} of the {parcel} is invalid
a wrong address is on the {track}
the {carrier} could not find the {spot}
the {parcel} lies at the {spot} and nobody collects it
the {customs} for the {parcel} was refused
the {carrier} wants {customs} for a {parcel} inside the country
the box of the {parcel} was open when the {carrier} came
please change the delivery address of the {parcel}
the {parcel} is too heavy for the {carrier}
the {carrier} came before the {spot} was open
we got a {parcel} that is not ours
where is our {parcel}, the {track} has not moved
the {spot} refused the {parcel}
the {parcel} was sent to the old {spot}
the {carrier} delivered the {parcel} to a neighbour
the {track} was not printed for the {parcel}
return of the {parcel}: the {carrier} needs a {track}
the {parcel} for {p} left the {spot} and then it {late}
express was booked but the {parcel} {late}
the {carrier} reports damage to the {parcel}
one {parcel} of three {late}
the {customs} shows the wrong value for the {parcel}
the {parcel} stands in the rain at the {spot}
no {carrier} was booked for the {parcel}
the {carrier} dropped the {parcel}
the {track} belongs to another {parcel}
the {parcel} passed customs but then it {late}
the {carrier} needs a phone number for the {parcel}
please book a {carrier} to collect the {parcel}
delivery to the {spot} failed, the {parcel} went back
the {parcel} with {p} stock {late}
the seal of the {parcel} is broken says the {carrier}
the {carrier} charges {customs} at the {spot}
the {track} shows the {parcel} in another town
the freight of the {parcel} was not announced at the {spot}
the {parcel} {late} and the {carrier} does not answer
a {parcel} came without {track}
the {customs} of our {parcel} takes too long
"""
