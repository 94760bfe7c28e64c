# syntax=docker/dockerfile:1
# Profile Vault for a server: Python, the pinned requirements and the package; runs as a user without privileges.
# What goes in is pinned by hash (requirements/); times in it come from SOURCE_DATE_EPOCH, where the builder sets that.
# For bytes that never change, pin the base by digest, too: --build-arg BASE=python:3.11-slim-bookworm@sha256:...
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /build
COPY requirements requirements
RUN python -m venv /tools && /tools/bin/pip install --require-hashes -r requirements/demo.txt \
 && python -m venv --without-pip /opt/vault \
 && /tools/bin/pip --python /opt/vault/bin/python install --no-compile --require-hashes -r requirements/base.txt
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY vault vault
COPY api api
COPY policies policies
RUN /tools/bin/python -m hatchling build --target wheel \
 && /tools/bin/pip --python /opt/vault/bin/python install --no-compile --no-deps dist/*.whl

FROM ${BASE}
# A fixed number, so that files in volumes keep their owner from one image to the next. Every folder that a volume may be
# mounted on is made here: a new volume takes owner and mode from it.
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/profile-vault --shell /usr/sbin/nologin vault \
 && cd /var/lib && install -d -o vault -g vault -m 0700 profile-vault profile-vault/data profile-vault/keyring \
    profile-vault/journal profile-vault/secrets profile-vault/access profile-vault/keys profile-vault/hand-out \
    profile-vault/hand-out/ingest profile-vault/hand-out/feed profile-vault/hand-out/feed-analytics \
    profile-vault/hand-out/desk profile-vault/hand-out/worker profile-vault/logins profile-vault/logins/ingest \
    profile-vault/logins/feed profile-vault/logins/desk profile-vault/logins/worker \
 && install -d -o vault -g vault -m 0755 profile-vault/roles
COPY --from=build /opt/vault /opt/vault
COPY policies /etc/profile-vault/policies
ENV PATH=/opt/vault/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    PROFILE_VAULT_DATA_DIR=/var/lib/profile-vault/data \
    PROFILE_VAULT_KEYRING=/var/lib/profile-vault/keyring \
    PROFILE_VAULT_JOURNAL=/var/lib/profile-vault/journal \
    PROFILE_VAULT_KEY_FILE=/var/lib/profile-vault/secrets/root-key \
    PROFILE_VAULT_POLICIES=/etc/profile-vault/policies
USER 10001:10001
WORKDIR /var/lib/profile-vault
EXPOSE 8000
# /readyz answers on loopback only, which is where this asks from.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=3)"]
ENTRYPOINT ["profile-vault"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
