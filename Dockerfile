# One image for every command: docker run … workspace-usage migrate, grant, worker, doctor.

FROM node:24.21.0-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
# The build needs no package's install script.
RUN npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY migrations migrations
COPY src src
RUN npm run build

# A stage of its own, so that npm's cache stays out of the image.
FROM node:24.21.0-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
# npm keeps TypeScript, because it is an optional peer of a package of the dashboard. Nothing loads it.
RUN npm ci --omit=dev --ignore-scripts && rm -r node_modules/typescript node_modules/.bin/tsc node_modules/.bin/tsserver

FROM node:24.21.0-slim AS workspace-usage
ARG VERSION=0.0.0-local
ARG REVISION=unknown
LABEL org.opencontainers.image.title="workspace-usage" \
      org.opencontainers.image.description="Last-used tracking for workspaces, kept in PostgreSQL" \
      org.opencontainers.image.source="https://github.com/workspace-usage/workspace-usage" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV NODE_ENV=production
WORKDIR /app
# All of it belongs to root, and the program can't change itself.
COPY package.json LICENSE ./
COPY --from=dependencies /app/node_modules node_modules
COPY --from=build /app/dist dist
# The user "node". Kubernetes must see a number to know that it is not root.
USER 1000:1000
# No HEALTHCHECK: only a worker with a port can be asked. docker-compose.yml asks it.
ENTRYPOINT ["node", "dist/src/cli/main.js"]
CMD ["worker"]
