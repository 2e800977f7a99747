#!/bin/sh
# Makes opus_sizes.bin again: the sizes of the Opus packets of some minutes of
# speech, one byte a packet, as a browser encodes a microphone for WebRTC: 48 kHz
# mono, voice application, 32 kbit/s variable, 20 ms, in-band FEC on (without
# reported loss it adds nothing). Four synthetic voices read aloud, with the pink
# noise of a quiet room below them.
# Needs the Debian packages espeak-ng, sox, gcc, libc6-dev and libopus-dev.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat >text <<'TEXT'
Good evening everybody, can you hear me now? Yes, I can hear you well, but there is a little echo on your side. Let me turn the speakers down. Is it better like this?
Much better, thank you. So, where were we yesterday? I think that we wanted to look at the second door behind the bridge, and nobody had the key any more.
Wait, wait, I have it, I picked it up when you were fighting. Sorry, I should have told you. No problem at all. Then let us go there first, and after that to the market, because I am nearly out of potions.
Does anybody know how late it is? It is about twenty past nine. I have to leave at eleven, because tomorrow is a working day. That is plenty of time. Watch out, on your left! Two of them, no, three! Help me here, please.
I am coming, I am coming. Stay behind the wall, and do not move until I say so. Now! Excellent. That was close, was it not? My hands are shaking. Ha, mine too.
The train to the coast left early in the morning, while the town was still asleep. She had packed a small bag with bread, cheese and a thick book that she had wanted to read since the winter. Outside the window the fields went by, yellow and green, and here and there a farmer looked up from his work.
TEXT

speak() { # name, voice, words a minute, pitch
	espeak-ng -v "$2" -s "$3" -p "$4" -g 2 -f text -w "$1.raw.wav"
	sox "$1.raw.wav" -r 48000 -c 1 "$1.wav" gain -n -6
}
speak 1 en-us+m3 155 42
speak 2 en-gb+f2 170 54
speak 3 en-us+f4 185 66
speak 4 en-gb-x-rp+m7 200 78
sox 1.wav 2.wav 3.wav 4.wav speech.wav
sox -R -n -r 48000 -c 1 noise.wav synth "$(soxi -D speech.wav)" pinknoise vol 0.001
sox -m -v 1 speech.wav -v 1 noise.wav -t raw -e signed -b 16 -L speech.raw

cat >encode.c <<'CODE'
#include <opus/opus.h>
#include <stdio.h>
int main(int argc, char **argv) {
    short pcm[960];
    unsigned char packet[1275];
    int err;
    OpusEncoder *e = opus_encoder_create(48000, 1, OPUS_APPLICATION_VOIP, &err);
    if (err) return 1;
    opus_encoder_ctl(e, OPUS_SET_BITRATE(32000));
    opus_encoder_ctl(e, OPUS_SET_VBR(1));
    opus_encoder_ctl(e, OPUS_SET_VBR_CONSTRAINT(0));
    opus_encoder_ctl(e, OPUS_SET_COMPLEXITY(9));
    opus_encoder_ctl(e, OPUS_SET_INBAND_FEC(1));
    opus_encoder_ctl(e, OPUS_SET_DTX(argc > 1));
    while (fread(pcm, 2, 960, stdin) == 960) {
        int n = opus_encode(e, pcm, 960, packet, sizeof packet);
        if (n < 1 || n > 255) return 2;
        putchar(n);
    }
    return 0;
}
CODE
gcc -O2 -o encode encode.c -lopus -lm
./encode <speech.raw | head -c 16000 >"$here/opus_sizes.bin"
