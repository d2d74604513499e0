"""Phrases of the topic `hardware`: laptops, printers, screens and their parts."""

TEAM = "DEV-3"

SLOTS = {
    "dev": "laptop|printer|keyboard|docking station|headset|monitor|scanner|mouse|webcam|tablet|notebook",
    "part": "battery|fan|screen|hinge|charger|power supply|microphone|hard disk|power button|USB port|display panel",
    "broke": (
        "is dead|flickers|makes a grinding noise|is cracked|overheats|smells burnt|is broken|stopped working|rattles"
    ),
    "off": "will not turn on|stays black|shuts down by itself|does not boot|freezes",
    "paper": "toner|paper tray|ink cartridge|drum|paper feed",
    "harm": "fell on the floor|got wet with coffee|was dropped|was bumped|is worn out",
    "swap": "a replacement|a spare|a new one|a repair|an exchange",
}

# Slots whose words other topics use too: a form that has little beside these is given a detail.
WEAK = {"broke", "off", "harm", "swap"}

DETAILS = """
the {part} of the {dev} was cleaned
the {dev} has a new {part}
another {dev} was tried
the {dev} and its {part} are two years old
the {dev} is still under warranty with its {part}
a spare {part} for the {dev} is not here
the {part} looks bad
the {paper} and the {part} were checked
"""

SKELETONS = """
my {dev} {off} while running {p}
the {part} of my {dev} {broke}
the printer jams at the {paper} whenever I print from {p}
the {dev} stopped working in the middle of {p}
the {dev} does not charge and {off}
my headset {part} {broke} in {p}
the battery swells and the {dev} case does not close
the {dev} makes a grinding noise and {p} shows no image
the {dev} {off} when I open {p}
the {part} is loud and the {dev} overheats with {p}
the {dev} {harm} and now the {part} {broke}
I need {swap} for my {dev} because the {part} {broke}
the {paper} of the printer is empty and must be changed
my {dev} {harm}
the {dev} {off} after the {part} was changed
keys on the {dev} stick since it {harm}
there are lines on the {part} of the {dev}
the {part} came loose from the {dev}
the {dev} is not found by the docking station
my {dev} needs {swap}
the {part} {broke} and the {dev} {off}
please send {swap} for the broken {dev}
the printer shows an error at the {paper}
prints are pale although the {paper} is new
the {dev} on my desk {broke}
when I move the {dev} the {part} {broke}
the {part} of the {dev} gets very hot
the {dev} beeps three times and {off}
the second monitor {off} at the docking station
the {dev} no longer reacts and its {part} {broke}
a {part} for the {dev} was ordered but does not fit
the cable of the {dev} is torn and the {part} {broke}
the touchpad of the {dev} {broke}
my {dev} {off} as soon as the {part} is unplugged
the {dev} smells burnt near the {part}
the lamp on the {dev} blinks and it {off}
one {part} of the {dev} is missing
the {dev} is too old for {p} and its {part} {broke}
the camera of the {dev} {broke} in {p} calls
the {dev} clicks and {p} freezes
my {dev} {harm} and the {part} {broke}
the scanner pulls two sheets and the {paper} {broke}
the speaker of the {dev} {broke}
the {dev} in the meeting room {off}
the {part} holds for ten minutes only and then the {dev} {off}
the {dev} slot and the {part} {broke}
the {dev} came back from repair and the {part} still {broke}
the glass of the {dev} is cracked
the {dev} wakes up with a black {part}
paper gets stuck in the printer and the {paper} {broke}
the {part} of my {dev} has a bad contact
I spilled tea and the {dev} {off}
"""
