# The box in which an agent installs software. `devnull image build` builds it and tags it by the digest of what it is
# made of; where the base cannot be pulled, it makes one (--build-arg BASE=...).
ARG BASE=debian:bookworm-slim

# Debian with its package managers and build tools: the one slow step, and the only one with a network.
FROM ${BASE} AS tools
COPY sandbox/box/base.sh sandbox/corpus/packages.txt /tmp/box/
RUN sh /tmp/box/base.sh /tmp/box/packages.txt && rm -rf /tmp/*

# The supervisor, PID 1 of every box.
FROM tools AS supervisor
COPY sandbox/native /tmp/native
RUN make -C /tmp/native

# Every family's packages, sound and faulty.
FROM tools AS builds
COPY sandbox/box/*.py /tmp/box/
COPY sandbox/corpus /tmp/corpus
RUN python3 /tmp/box/families.py /tmp/corpus /srv/builds.tar

FROM tools
LABEL org.devnull.image=1
COPY --from=builds /srv/builds.tar /srv/builds.tar
COPY --from=supervisor /tmp/native/build/supervisor /usr/lib/devnull/supervisor
ENTRYPOINT ["/usr/lib/devnull/supervisor"]
