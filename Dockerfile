# syntax=docker/dockerfile:1
# Profile Vault for a server: Python, the pinned requirements and the package; runs as a user without privileges.
FROM python:3.11-slim-bookworm AS build
WORKDIR /build
COPY requirements requirements
RUN python -m venv /tools && /tools/bin/pip install --no-cache-dir --require-hashes -r requirements/demo.txt \
 && python -m venv /opt/vault && /opt/vault/bin/pip install --no-cache-dir --require-hashes -r requirements/base.txt
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY vault vault
COPY api api
COPY policies policies
RUN /tools/bin/python -m hatchling build --target wheel && /opt/vault/bin/pip install --no-cache-dir --no-deps dist/*.whl

FROM python:3.11-slim-bookworm
# A fixed number, so that files in volumes keep their owner from one image to the next.
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/profile-vault --shell /usr/sbin/nologin vault \
 && install -d -o vault -g vault -m 0700 /var/lib/profile-vault /var/lib/profile-vault/data \
    /var/lib/profile-vault/keyring /var/lib/profile-vault/journal /var/lib/profile-vault/secrets
COPY --from=build /opt/vault /opt/vault
COPY policies /etc/profile-vault/policies
ENV PATH=/opt/vault/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    PROFILE_VAULT_DATA_DIR=/var/lib/profile-vault/data \
    PROFILE_VAULT_KEYRING=/var/lib/profile-vault/keyring \
    PROFILE_VAULT_JOURNAL=/var/lib/profile-vault/journal \
    PROFILE_VAULT_KEY_FILE=/var/lib/profile-vault/secrets/root-key \
    PROFILE_VAULT_POLICIES=/etc/profile-vault/policies
USER vault
WORKDIR /var/lib/profile-vault
EXPOSE 8000
ENTRYPOINT ["profile-vault"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
